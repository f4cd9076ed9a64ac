"""The repositories of tests/repo, whose maintenance is tested here."""

from tests.repo.conftest import repository, session, store

__all__ = ["repository", "session", "store"]
