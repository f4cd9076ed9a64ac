"""From version 1 of the format to version 2, under the official library's name."""

from functools import partial

from zfuse.api.boundary import run
from zfuse.api.repository import Repository
from zfuse.api.values import SpecVersion
from zfuse.maintenance.upgrade import upgrade_repository


def upgrade_icechunk_repository(
    repo: Repository,
    *,
    dry_run: bool,
    delete_unused_v1_files: bool = True,
    prefetch_concurrency: int | None = None,  # one at a time is fast enough
) -> Repository:
    """Make a version 1 repository one of version 2, and return it opened anew.

    Nobody else may write to it meanwhile. With *dry_run* everything is read and nothing written.
    """
    run(partial(_upgrade, repo, dry_run=dry_run, delete_unused_v1_files=delete_unused_v1_files))
    return repo.reopen()


async def _upgrade(repo: Repository, *, dry_run: bool, delete_unused_v1_files: bool) -> None:
    engine = await repo.engine()
    await upgrade_repository(engine, dry_run=dry_run, delete_unused_v1_files=delete_unused_v1_files)


def supported_spec_versions() -> list[SpecVersion]:
    """Return the versions of the format that zfuse reads and writes, newest first."""
    return [SpecVersion.v2, SpecVersion.v1]
