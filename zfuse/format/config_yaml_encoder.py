"""Writes ``config.yaml`` of version 1 repositories, for serde (YAML 1.2) to read.

The variants of an enum become tags: ``{"s3": {"region": ...}}`` in the field ``store`` is
written ``!s3 {region: ...}`` (in lines). Only the places that hold enums tell a variant from
a mapping of one key; ``Variant`` marks those that ``decode_tagged`` found elsewhere.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from zfuse.errors import InvalidInputError
from zfuse.format.config_yaml import Variant
from zfuse.format.values import MAX_DEPTH, Json
from zfuse.format.values_encoder import to_json

_ENUM_FIELDS: Final = frozenset({"store", "preload_if", "condition", "from", "to"})
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""What YAML 1.1 or 1.2 takes for something else than a string."""

_ESCAPED: Final = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]')


def encode_yaml(values: Mapping[str, Any]) -> bytes:
    """Return the ``config.yaml`` of the settings *values*, as ``RepositoryConfig.raw`` has them.

    Raises:
        InvalidInputError: a value is not one that JSON has, or is nested too deep.
    """
    to_json(values)
    lines = [f"{_text(name)}:{_after(_tagged(name, item), 1)}\n" for name, item in values.items()]
    return "".join(lines).encode() or b"{}\n"


def _tagged(field: str, value: object) -> object:
    """Return *value*, which lies in the field *field*, with its variants marked."""
    if field in _ENUM_FIELDS:
        return _enum(value)
    match value:
        case Variant():
            return Variant({name: _tagged(name, item) for name, item in value.items()})
        case Mapping():
            return {name: _tagged(name, item) for name, item in value.items()}
        case list() | tuple() if field == "split_sizes":
            return [_split(rule) for rule in value]
        case list() | tuple():
            return [_tagged("", item) for item in value]
        case _:
            return value


def _enum(value: object) -> object:
    """Return an enum: a string for a variant without content, else a mapping of one key."""
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1:
        raise InvalidInputError(f"{dict(value)!r:.80} must have one key, the kind of it")
    [(name, content)] = value.items()
    if isinstance(content, list | tuple):
        return Variant({name: [_enum(item) for item in content]})
    return Variant({name: _tagged("", content)})


def _split(rule: object) -> object:
    """Return a rule of ``split_sizes``: which arrays, and how their dimensions are cut."""
    if isinstance(rule, list | tuple) and rule:
        return [_enum(rule[0]), *(_tagged("", item) for item in rule[1:])]
    return rule


def _after(value: object, depth: int) -> str:
    """Return what stands behind ``name:`` or ``-``, lines of their own *depth* levels inside."""
    start = "\n" + "  " * depth
    match value:
        case Variant():
            [(name, content)] = value.items()
            return f" !{name}{_after(content, depth)}"
        case Mapping() if value:
            items = value.items()
            return "".join(f"{start}{_text(n)}:{_after(item, depth + 1)}" for n, item in items)
        case list() | tuple() if value:
            return "".join(f"{start}-{_after(item, depth + 1)}" for item in value)
        case Mapping():
            return " {}"
        case list() | tuple():
            return " []"
        case _:
            return f" {_scalar(to_json(value, MAX_DEPTH))}"


def _scalar(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case _:
            return repr(value)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + _ESCAPED.sub(lambda found: _escape(found[0]), text) + '"'


def _escape(character: str) -> str:
    return f"\\{character}" if character in {'"', "\\"} else f"\\u{ord(character):04x}"
