"""What a repository says about itself: configuration, containers, metadata, status and flags.

Protocol: spec-v2, "Repo Info File"; spec-v1 for ``config.yaml``.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from zfuse.errors import (
    AlreadyExistsError,
    BusyError,
    NotAllowedError,
    NotFoundError,
    ObjectNotFoundError,
)
from zfuse.format import repo_update
from zfuse.format.config import RepositoryConfig, VirtualChunkContainer
from zfuse.format.config_settings import CONTAINERS_KEY, check_settings, completed
from zfuse.format.config_yaml import decode_tagged
from zfuse.format.config_yaml_encoder import encode_yaml
from zfuse.format.container_values import (
    check_containers,
    container_values,
    declares,
    raw_containers,
)
from zfuse.format.ids import SnapshotId
from zfuse.format.layout import CONFIG_KEY_V1, backup_name, overwritten_key
from zfuse.format.repo_info import Availability, RepoInfo
from zfuse.format.repo_update import FeatureFlag, Stamp
from zfuse.repo.new_ids import new_id
from zfuse.repo.publish import change_repository, now_us, pause, replace_object
from zfuse.repo.repository import Repository
from zfuse.storage.base import ABSENT, Absent, Blob, Version

_ATTEMPTS: Final = 100

ConfigChange = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes new settings of those that are stored, in plain values; called again if others win."""


async def change_config(repository: Repository, change: ConfigChange) -> None:
    """Save what *change* makes of the settings that the repository has.

    Settings that zfuse does not know are for *change* to keep. What *change* raises ends the
    attempt.

    Raises:
        BusyError: others were faster a hundred times.
        InvalidInputError: the official library could not read the new settings.
        OutcomeUnknownError: whether the change landed can not be found out now.
        ReadOnlyError: the repository takes no changes.
    """
    if repository.state.spec_version == 1:
        await _change_config_v1(repository, change)
        return

    def changed(info: RepoInfo, stamp: Stamp) -> RepoInfo:
        return repo_update.set_config(info, _changed(info.config, change), stamp)

    await change_repository(repository, changed)


async def add_container(
    repository: Repository, container: VirtualChunkContainer, *, replace: bool = False
) -> bool:
    """Declare a virtual chunk container; return False if the repository had just this one.

    With *replace* it takes the place of those that have its prefix or its name.

    Raises:
        AlreadyExistsError: another container has its prefix or its name.
        InvalidInputError: the container is not valid; the message says what to write.
        ReadOnlyError: the repository takes no changes.
    """
    values = container_values(container)
    if await _declares(repository, container):
        return False

    def change(config: Mapping[str, Any]) -> Mapping[str, Any]:
        kept = {}
        for key, other in raw_containers(config).items():
            if not _collides(key, other, container):
                kept[key] = other
            elif not replace and not declares(other, container):
                raise AlreadyExistsError(
                    f"there is a container {_shown(key, other)} already, with other settings;"
                    " replace it (zfuse container add --replace), or choose another name"
                )
        return {**config, CONTAINERS_KEY: {**kept, container.url_prefix: values}}

    await change_config(repository, change)
    return True


async def remove_container(repository: Repository, url_prefix_or_name: str) -> None:
    """Declare a virtual chunk container no longer; what refers into it can not be read then.

    Raises:
        NotFoundError: no container has that prefix or name.
        ReadOnlyError: the repository takes no changes.
    """

    def change(config: Mapping[str, Any]) -> Mapping[str, Any]:
        containers = raw_containers(config)
        wanted = {url_prefix_or_name, f"{url_prefix_or_name}/"}
        kept = {
            key: other
            for key, other in containers.items()
            if key not in wanted and _field(other, "name") != url_prefix_or_name
        }
        if len(kept) == len(containers):
            known = ", ".join(map(repr, containers)) or "none"
            raise NotFoundError(f"no container {url_prefix_or_name!r}; the repository has {known}")
        return {**config, CONTAINERS_KEY: kept}

    await change_config(repository, change)


async def set_metadata(repository: Repository, metadata: Mapping[str, Any]) -> None:
    """Replace the metadata of the repository (values of the types that JSON has).

    Raises:
        NotAllowedError: version 1 has none.
        ReadOnlyError: the repository takes no changes.
    """
    _require_version_2(repository, "metadata")
    await change_repository(
        repository, lambda info, stamp: repo_update.set_metadata(info, metadata, stamp)
    )


async def update_metadata(repository: Repository, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Set some keys of the metadata of the repository and keep the others; return them all.

    Raises:
        NotAllowedError: version 1 has none.
        ReadOnlyError: the repository takes no changes.
    """
    _require_version_2(repository, "metadata")
    await change_repository(
        repository,
        lambda info, stamp: repo_update.set_metadata(info, {**info.metadata, **metadata}, stamp),
    )
    info = repository.state.info
    return {} if info is None else info.metadata


async def set_status(
    repository: Repository, availability: Availability, reason: str | None = None
) -> None:
    """Say whether the repository takes changes, and why; this can always be changed.

    Raises:
        NotAllowedError: version 1 has no status.
    """
    _require_version_2(repository, "status")
    await change_repository(
        repository, lambda info, stamp: repo_update.set_status(info, availability, reason, stamp)
    )


async def set_feature_flag(
    repository: Repository, flag: FeatureFlag, *, value: bool | None
) -> None:
    """Allow or forbid what *flag* stands for, or leave it to the default (None).

    Raises:
        NotAllowedError: version 1 has no flags.
        ReadOnlyError: the repository takes no changes.
    """
    _require_version_2(repository, "feature flags")
    await change_repository(
        repository, lambda info, stamp: repo_update.set_flag(info, flag, stamp, value=value)
    )


def _require_version_2(repository: Repository, what: str) -> None:
    if repository.state.spec_version == 1:
        raise NotAllowedError(
            f"a version 1 repository has no {what}; zfuse upgrade makes it version 2"
        )


async def _declares(repository: Repository, container: VirtualChunkContainer) -> bool:
    """Tell whether the repository has just this container, by its state read anew."""
    state = await repository.refresh()
    found = raw_containers(state.config.raw).get(container.url_prefix)
    return declares(found, container)


def _changed(former: Mapping[str, Any] | None, change: ConfigChange) -> dict[str, Any]:
    before = former or {}
    values = completed(change(before))
    check_settings(values, before)
    check_containers(values, before)
    return values


async def _change_config_v1(repository: Repository, change: ConfigChange) -> None:
    storage = repository.storage
    for attempt in range(_ATTEMPTS):
        blob = await _fetch_config_v1(repository)
        expect: Version | Absent = ABSENT
        before: Any = None
        backup = overwritten_key(backup_name(CONFIG_KEY_V1, now_us(), new_id(SnapshotId)))
        if blob is not None:
            expect, before = blob.version, decode_tagged(blob.data)
        data = encode_yaml(_changed(before, change))
        if blob is not None:
            await storage.put(backup, blob.data)

        async def landed(found: bytes, mine: bytes = data) -> bool:
            return found == mine

        if await replace_object(storage, CONFIG_KEY_V1, data, expect, landed):
            config = RepositoryConfig.from_yaml(data)
            repository.adopt(replace(repository.state, config=config, fetched_at=now_us()))
            return
        await storage.delete(backup)  # nobody replaced what it is a copy of
        await pause(attempt)
    raise BusyError(f"{storage.url} changes faster than this change can be made; try again")


async def _fetch_config_v1(repository: Repository) -> Blob | None:
    """Return the ``config.yaml``, None if there is none.

    Raises:
        CorruptionError: it holds no configuration.
    """
    try:
        blob = await repository.storage.get(CONFIG_KEY_V1)
    except ObjectNotFoundError:
        return None
    RepositoryConfig.from_yaml(blob.data)
    return blob


def _collides(key: str, other: object, container: VirtualChunkContainer) -> bool:
    prefix, name = _field(other, "url_prefix"), _field(other, "name")
    has_name = container.name is not None and name == container.name
    return has_name or container.url_prefix in {key, prefix}


def _field(container: object, name: str) -> Any:  # noqa: ANN401 - any value of JSON
    return container.get(name) if isinstance(container, Mapping) else None


def _shown(key: str, container: object) -> str:
    name = _field(container, "name")
    return key if name is None else f"{key} ({name})"
