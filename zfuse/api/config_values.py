"""Between the settings of this interface and the plain values that a repository stores."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, get_args, get_type_hints

from zfuse.api.config import ManifestSplittingConfig, RepositoryConfig
from zfuse.api.containers import VirtualChunkContainer
from zfuse.api.manifest_conditions import (
    ManifestPreloadCondition,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
)
from zfuse.api.object_stores import ObjectStoreConfig
from zfuse.errors import CorruptionError
from zfuse.format.config import RepositoryConfig as StoredConfig
from zfuse.format.config import StoreConfig
from zfuse.format.config_settings import check_settings
from zfuse.format.container_values import check_place


def config_values(config: RepositoryConfig) -> dict[str, Any]:
    """Return *config* as plain values: every setting, None where it is not set."""
    values: dict[str, Any] = _values(config)
    return values


def check_config(config: RepositoryConfig) -> None:
    """Refuse settings that the official library would not take.

    Raises:
        InvalidInputError: the message says which, and what it can be.
    """
    for container in (config.virtual_chunk_containers or {}).values():
        check_place(container.to_stored())
    check_settings(config_values(config), {})


def config_of(stored: StoredConfig) -> RepositoryConfig:
    """Return the settings that a repository stores.

    Raises:
        CorruptionError: they are no settings.
    """
    values = dict(stored.raw)
    # As zfuse understands them: what is not valid is left out.
    values["virtual_chunk_containers"] = None
    try:
        config: RepositoryConfig = _read(RepositoryConfig, values)
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        raise CorruptionError(f"the config of the repository makes no sense: {exc}") from exc
    containers = {
        prefix: VirtualChunkContainer(prefix, ObjectStoreConfig.of(found.store), found.name)
        for prefix, found in stored.virtual_chunk_containers.items()
    }
    config.virtual_chunk_containers = containers or None
    return config


def _values(value: Any) -> Any:  # noqa: ANN401, PLR0911 - one per kind of setting
    match value:
        case Enum():
            return value.name.lower()
        case ManifestPreloadCondition() | ManifestSplitCondition() | ManifestSplitDimCondition():
            return value.to_values()
        case ManifestSplittingConfig():
            return {"split_sizes": [_split(*rule) for rule in value.split_sizes]}
        case VirtualChunkContainer():
            return {
                "name": value.name,
                "url_prefix": value.url_prefix,
                "store": _store_values(value.store.store_config()),
            }
        case dict():
            return {key: _values(inner) for key, inner in value.items()}
        case _:
            if not is_dataclass(value):
                return value
            return {each.name: _values(getattr(value, each.name)) for each in fields(value)}


def _split(condition: ManifestSplitCondition, sizes: Any) -> list[Any]:  # noqa: ANN401
    return [
        condition.to_values(),
        [{"condition": dim.to_values(), "num_chunks": size} for dim, size in sizes],
    ]


def _store_values(store: StoreConfig) -> dict[str, Any]:
    if store.kind == "local_file_system":
        return {store.kind: store.options["path"]}
    return {store.kind: dict(store.options)}


def _read(kind: type, values: Any) -> Any:  # noqa: ANN401 - any setting
    """Return the setting of the class *kind* that *values* tell of."""
    if issubclass(kind, Enum):
        return next(member for member in kind if member.name.lower() == values)
    if kind is ManifestPreloadCondition:
        return ManifestPreloadCondition.from_values(values)
    if kind is ManifestSplittingConfig:
        rules = values.get("split_sizes") or ()
        return ManifestSplittingConfig(
            (
                ManifestSplitCondition.from_values(condition),
                [
                    (ManifestSplitDimCondition.from_values(s["condition"]), s["num_chunks"])
                    for s in sizes
                ],
            )
            for condition, sizes in rules
        )
    if hasattr(kind, "__dataclass_fields__"):
        return _read_fields(kind, values)
    return values


def _read_fields(kind: type, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any setting
    return kind(
        **{
            name: _read(inner, values[name])
            for name, inner in _settings(kind).items()
            if values.get(name) is not None
        }
    )


@cache
def _settings(kind: type) -> dict[str, type]:
    """Return the class of each setting in the settings *kind*."""
    found: dict[str, type] = {}
    for name, hint in get_type_hints(kind).items():
        choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = next(choice for choice in choices if choice is not type(None))
        found[name] = plain if isinstance(plain, type) else dict
    return found
