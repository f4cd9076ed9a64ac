"""The settings that the official library knows: names, what they may be, and their defaults.

A setting is named by its path in the configuration, ``manifest.preload.max_total_refs``. A value
of a wrong type would keep the official library from opening the repository, so none is saved.
"""

import difflib
import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from zfuse.errors import InvalidInputError

CONTAINERS_KEY: Final = "virtual_chunk_containers"
_FORMER_KEY: Final = "previous_file"

_U8, _U16, _U32, _U64 = (2**bits - 1 for bits in (8, 16, 32, 64))
_I32: Final = 2**31 - 1


class SettingKind(enum.Enum):
    """What the value of a setting is; the values say it in words."""

    NUMBER = "a number"
    BOOL = "true or false"
    TEXT = "a text"
    ALGORITHM = '"zstd"'
    PRELOAD = 'a condition such as {"name_matches": {"regex": "^time$"}}'
    SPLITS = 'a list such as [["any_array", [{"condition": "Any", "num_chunks": 1000}]]]'


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting; a ``default`` of None is for the library or the store to choose.

    ``lowest`` and ``highest`` are the bounds of a number, both included.
    """

    kind: SettingKind
    default: int | None = None
    lowest: int = 0
    highest: int = _U64

    def takes(self, value: object) -> bool:
        """Tell whether *value* can be the setting's; None always can, and is the default."""
        if value is None:
            return True
        match self.kind:
            case SettingKind.NUMBER:
                fits = _is_number(value, self.lowest, self.highest)
            case SettingKind.BOOL:
                fits = isinstance(value, bool)
            case SettingKind.TEXT:
                fits = isinstance(value, str)
            case SettingKind.ALGORITHM:
                fits = value == "zstd"
            case SettingKind.PRELOAD:
                fits = _is_condition(value, _PRELOAD_WORDS, _is_preload)
            case _:
                fits = isinstance(value, list | tuple) and all(map(_is_split, value))
        return fits

    @property
    def wants(self) -> str:
        """What the value has to be, in words."""
        if self.kind is SettingKind.NUMBER:
            return f"a whole number from {self.lowest} to {self.highest}"
        return str(self.kind.value)


def _number(default: int | None, highest: int, lowest: int = 0) -> Setting:
    return Setting(SettingKind.NUMBER, default, lowest, highest)


SETTINGS: Final[Mapping[str, Setting]] = {
    "inline_chunk_threshold_bytes": _number(512, _U16),
    "get_partial_values_concurrency": _number(10, _U16),
    "compression.algorithm": Setting(SettingKind.ALGORITHM),
    "compression.level": _number(3, _U8),
    # With 0 of these two the official library waits for ever.
    "max_concurrent_requests": _number(256, _U16, 1),
    "max_concurrent_decodes": _number(None, _U16, 1),
    "caching.num_snapshot_nodes": _number(500_000, _U64),
    "caching.num_chunk_refs": _number(15_000_000, _U64),
    "caching.num_transaction_changes": _number(0, _U64),
    "caching.num_bytes_attributes": _number(0, _U64),
    "caching.num_bytes_chunks": _number(0, _U64),
    "storage.concurrency.max_concurrent_requests_for_object": _number(None, _U16, 1),
    "storage.concurrency.ideal_concurrent_request_size": _number(None, _U64, 1),
    "storage.retries.max_tries": _number(None, _U16, 1),
    "storage.retries.initial_backoff_ms": _number(None, _U32),
    "storage.retries.max_backoff_ms": _number(None, _U32),
    "storage.timeouts.connect_timeout_ms": _number(None, _U32),
    "storage.timeouts.read_timeout_ms": _number(None, _U32),
    "storage.timeouts.operation_timeout_ms": _number(None, _U32),
    "storage.timeouts.operation_attempt_timeout_ms": _number(None, _U32),
    "storage.unsafe_use_conditional_update": Setting(SettingKind.BOOL),
    "storage.unsafe_use_conditional_create": Setting(SettingKind.BOOL),
    "storage.unsafe_use_metadata": Setting(SettingKind.BOOL),
    "storage.storage_class": Setting(SettingKind.TEXT),
    "storage.metadata_storage_class": Setting(SettingKind.TEXT),
    "storage.chunks_storage_class": Setting(SettingKind.TEXT),
    "storage.minimum_size_for_multipart_upload": _number(None, _U64),
    "manifest.preload.max_total_refs": _number(10_000, _U32),
    "manifest.preload.preload_if": Setting(SettingKind.PRELOAD),
    "manifest.preload.max_arrays_to_scan": _number(50, _U32),
    "manifest.splitting.split_sizes": Setting(SettingKind.SPLITS),
    "manifest.virtual_chunk_location_compression.min_num_chunks": _number(1000, _U16),
    "manifest.virtual_chunk_location_compression.dictionary_max_training_samples": _number(
        100, _U16
    ),
    "manifest.virtual_chunk_location_compression.dictionary_max_size_bytes": _number(2048, _U32),
    "manifest.virtual_chunk_location_compression.compression_level": _number(3, _I32, -_I32),
    "manifest.max_concurrent_manifest_fetches_during_commit": _number(1, _U16),
    "repo_update_retries.default.max_tries": _number(100, _U16, 1),
    "repo_update_retries.default.initial_backoff_ms": _number(50, _U32),
    "repo_update_retries.default.max_backoff_ms": _number(30_000, _U32),
    "num_updates_per_repo_info_file": _number(1000, _U16),
}
"""All settings but the containers, in the order of the official library's files."""

_TOP: Final = (
    "inline_chunk_threshold_bytes",
    "get_partial_values_concurrency",
    "compression",
    "max_concurrent_requests",
    "max_concurrent_decodes",
    "caching",
    "storage",
    CONTAINERS_KEY,
    "manifest",
    _FORMER_KEY,
    "repo_update_retries",
    "num_updates_per_repo_info_file",
)


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* with every setting on the top level and in a used section named.

    This is how the official library saves a configuration; None stands for the default.
    """
    found: dict[str, Any] = {name: values.get(name) for name in _TOP}
    found |= {name: value for name, value in values.items() if name not in found}
    for key in SETTINGS:
        section, _, name = key.rpartition(".")
        place = find(found, section) if section else None
        if isinstance(place, Mapping) and name not in place:
            found = put(found, key, None)
    return found


def check_settings(values: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Refuse settings that the official library could not read.

    Unknown ones pass, and those that are as they were in *before*.

    Raises:
        InvalidInputError: the message names the setting and what it can be.
    """
    for key, setting in SETTINGS.items():
        sections = key.split(".")[:-1]
        for n in range(1, len(sections) + 1):
            section = find(values, ".".join(sections[:n]))
            if section is not None and not isinstance(section, Mapping):
                raise InvalidInputError(f"{'.'.join(sections[:n])} is a group of settings")
        value = find(values, key)
        if value != find(before, key) and not setting.takes(value):
            raise InvalidInputError(f"{key} can not be {value!r:.80}: it is {setting.wants}")
    former = values.get(_FORMER_KEY)
    if former is not None and former != before.get(_FORMER_KEY) and not isinstance(former, str):
        raise InvalidInputError(f"{_FORMER_KEY} can not be {former!r:.80}: it is a text")


def find(values: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 - any value of JSON
    """Return what lies in *values* under the path *key*, None if nothing does."""
    found: Any = values
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def put(values: Mapping[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return *values* with the setting *key* set."""
    name, dot, rest = key.partition(".")
    if not dot:
        return {**values, name: value}
    inner = values.get(name)
    return {**values, name: put(inner if isinstance(inner, Mapping) else {}, rest, value)}


def known_setting(key: str) -> Setting:
    """Return the setting *key*.

    Raises:
        InvalidInputError: there is none of that name; the message has the nearest.
    """
    if key in SETTINGS:
        return SETTINGS[key]
    if key.partition(".")[0] == CONTAINERS_KEY:
        raise InvalidInputError("containers are changed by zfuse container add and remove")
    near = difflib.get_close_matches(key, SETTINGS, 1, 0.5)
    below = [name for name in SETTINGS if name.startswith(f"{key}.")]
    hint = f"did you mean {(near or below)[0]}?" if near or below else "zfuse config show names all"
    raise InvalidInputError(f"no setting {key!r}; {hint}")


def unknown_settings(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what in *values* is set and not known here, with its path."""
    sections = {key.rpartition(".")[0] for key in SETTINGS}
    sections |= {section.partition(".")[0] for section in sections}

    def walk(place: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name, value in place.items():
            key = f"{path}{name}"
            if key in sections and isinstance(value, Mapping):
                yield from walk(value, f"{key}.")
            elif key not in SETTINGS and key != CONTAINERS_KEY and value is not None:
                yield key, value

    yield from walk(values, "")


_PRELOAD_WORDS: Final = ("true", "false")
_ARRAY_WORDS: Final = ("any_array",)


def _is_number(value: object, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_condition(
    value: object, words: tuple[str, ...], also: Callable[[str, object], bool] | None = None
) -> bool:
    """Tell whether *value* is a condition on an array: one of *words*, or a one-key mapping."""
    if isinstance(value, str):
        return value in words
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    [(name, content)] = value.items()
    if name in {"or", "and"}:
        return isinstance(content, list | tuple) and all(
            _is_condition(each, words, also) for each in content
        )
    if name in {"path_matches", "name_matches"}:
        return (
            isinstance(content, Mapping)
            and set(content) == {"regex"}
            and isinstance(content["regex"], str)
        )
    return also is not None and also(name, content)


def _is_preload(name: str, content: object) -> bool:
    if name != "num_refs" or not isinstance(content, Mapping) or set(content) != {"from", "to"}:
        return False
    return all(map(_is_bound, content.values()))


def _is_bound(value: object) -> bool:
    if not isinstance(value, Mapping):
        return value == "Unbounded"
    return set(value) <= {"Included", "Excluded"} and [
        _is_number(number, 0, _U32) for number in value.values()
    ] == [True]


def _is_split(rule: object) -> bool:
    """Tell whether *rule* says which arrays it is for, and how to cut their dimensions."""
    if (
        not isinstance(rule, list | tuple)
        or len(rule) != 2
        or not isinstance(rule[1], list | tuple)
    ):
        return False
    return _is_condition(rule[0], _ARRAY_WORDS) and all(map(_is_cut, rule[1]))


def _is_cut(cut: object) -> bool:
    if not isinstance(cut, Mapping) or set(cut) != {"condition", "num_chunks"}:
        return False
    condition = cut["condition"]
    if not _is_number(cut["num_chunks"], 1, _U32):
        return False
    if not isinstance(condition, Mapping):
        return bool(condition == "Any")
    match [*condition.items()]:
        case [("Axis", axis)]:
            return _is_number(axis, 0, _U64)
        case [("DimensionName", name)]:
            return isinstance(name, str)
        case _:
            return False
