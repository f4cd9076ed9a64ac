"""Making a repository that has no data yet."""

import time
from collections.abc import Mapping
from typing import Any

from zfuse.errors import AlreadyExistsError, InvalidInputError, VersionMismatchError
from zfuse.format.config_settings import check_settings, completed
from zfuse.format.config_yaml_encoder import encode_yaml
from zfuse.format.container_values import check_containers
from zfuse.format.ids import INITIAL_SNAPSHOT
from zfuse.format.initial import (
    initial_repo_info,
    initial_snapshot,
    initial_transaction_log,
)
from zfuse.format.layout import CONFIG_KEY_V1, REPO_INFO_KEY, snapshot_key, transaction_log_key
from zfuse.format.ref_file import encode_ref
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.format.snapshot_encoder import encode_snapshot
from zfuse.format.transaction_log_encoder import encode_transaction_log
from zfuse.repo.refs_v1 import MAIN_KEY
from zfuse.storage.base import ABSENT, Storage


async def create_repository(
    storage: Storage,
    *,
    spec_version: int = 2,
    config: Mapping[str, Any] | None = None,
    must_be_empty: bool = True,
) -> None:
    """Write an empty repository with the branch ``main`` into *storage*.

    *config* are its settings in plain values, None for the defaults. The object that makes it
    a repository comes last, and only if it is not there yet: of two that create at the same
    time one succeeds. There may be other things around it unless it *must_be_empty*.

    Raises:
        AlreadyExistsError: there is something at that place already.
        InvalidInputError: *spec_version* is neither 1 nor 2, or a setting is not valid.
    """
    if spec_version not in {1, 2}:
        raise InvalidInputError(f"spec version {spec_version}: zfuse writes versions 1 and 2")
    settings = None if config is None else completed(config)
    if settings is not None:
        check_settings(settings, {})
        check_containers(settings, {})
    await _check_free(storage, must_be_empty=must_be_empty)
    flushed_at = time.time_ns() // 1000
    snapshot = initial_snapshot(spec_version=spec_version, flushed_at=flushed_at)
    await storage.put(snapshot_key(INITIAL_SNAPSHOT), encode_snapshot(snapshot))
    if spec_version == 1:
        if settings is not None:
            await storage.put(CONFIG_KEY_V1, encode_yaml(settings))
        entry = MAIN_KEY, encode_ref(INITIAL_SNAPSHOT)
    else:
        log = encode_transaction_log(initial_transaction_log())
        await storage.put(transaction_log_key(INITIAL_SNAPSHOT), log)
        info = initial_repo_info(flushed_at=flushed_at, config=settings)
        entry = REPO_INFO_KEY, encode_repo_info(info)
    try:
        await storage.put(*entry, expect=ABSENT)
    except VersionMismatchError as exc:
        raise AlreadyExistsError(f"somebody else made {storage.url} just now") from exc


async def _check_free(storage: Storage, *, must_be_empty: bool) -> None:
    keys = [info.key async for info in storage.list("")]
    if not keys:
        return
    if {REPO_INFO_KEY, MAIN_KEY} & set(keys):
        raise AlreadyExistsError(
            f"there is a repository at {storage.url} already; use it, or choose another place"
        )
    if not must_be_empty:
        return
    raise AlreadyExistsError(f"{storage.url} is not empty ({keys[0]}); choose an empty place")
