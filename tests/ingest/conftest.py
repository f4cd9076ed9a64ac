"""Fixtures for the ingest of data."""

from tests.ingest.archive import archive, either_archive

__all__ = ["archive", "either_archive"]
