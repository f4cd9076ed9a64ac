"""Making a repository that has no data yet."""

import time

from zfuse.errors import AlreadyExistsError, InvalidInputError, VersionMismatchError
from zfuse.format.ids import INITIAL_SNAPSHOT
from zfuse.format.initial import (
    initial_repo_info,
    initial_snapshot,
    initial_transaction_log,
)
from zfuse.format.layout import REPO_INFO_KEY, snapshot_key, transaction_log_key
from zfuse.format.ref_file import encode_ref
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.format.snapshot_encoder import encode_snapshot
from zfuse.format.transaction_log_encoder import encode_transaction_log
from zfuse.repo.refs_v1 import MAIN_KEY
from zfuse.storage.base import ABSENT, Storage


async def create_repository(storage: Storage, *, spec_version: int = 2) -> None:
    """Write an empty repository with the branch ``main`` into *storage*.

    The object that makes it a repository comes last, and only if it is not there yet: of
    two that create at the same time one succeeds.

    Raises:
        AlreadyExistsError: there is something at that place already.
        InvalidInputError: *spec_version* is neither 1 nor 2.
    """
    if spec_version not in {1, 2}:
        raise InvalidInputError(f"spec version {spec_version}: zfuse writes versions 1 and 2")
    await _check_empty(storage)
    flushed_at = time.time_ns() // 1000
    snapshot = initial_snapshot(spec_version=spec_version, flushed_at=flushed_at)
    await storage.put(snapshot_key(INITIAL_SNAPSHOT), encode_snapshot(snapshot))
    if spec_version == 1:
        entry = MAIN_KEY, encode_ref(INITIAL_SNAPSHOT)
    else:
        log = encode_transaction_log(initial_transaction_log())
        await storage.put(transaction_log_key(INITIAL_SNAPSHOT), log)
        entry = REPO_INFO_KEY, encode_repo_info(initial_repo_info(flushed_at=flushed_at))
    try:
        await storage.put(*entry, expect=ABSENT)
    except VersionMismatchError as exc:
        raise AlreadyExistsError(f"somebody else made {storage.url} just now") from exc


async def _check_empty(storage: Storage) -> None:
    keys = [info.key async for info in storage.list("")]
    if not keys:
        return
    if {REPO_INFO_KEY, MAIN_KEY} & set(keys):
        raise AlreadyExistsError(
            f"there is a repository at {storage.url} already; use it, or choose another place"
        )
    raise AlreadyExistsError(f"{storage.url} is not empty ({keys[0]}); choose an empty place")
