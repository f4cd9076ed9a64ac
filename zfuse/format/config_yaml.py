"""Reads ``config.yaml`` of version 1 repositories, as serde (YAML 1.2) writes it.

The variants of an enum are tags there: ``!s3 {region: ...}`` is read as the mapping
``{"s3": {"region": ...}}``, which is how the FlexBuffers of version 2 have it.
"""

import re
from typing import Any, Final

import yaml

from zfuse.errors import CorruptionError
from zfuse.format.values import Json, plain

_MAX_SIZE: Final = 256 * 1024
"""PyYAML takes about ten seconds for a megabyte."""

_PREFIX: Final = "tag:yaml.org,2002:"


class Variant(dict[str, Any]):
    """A variant of an enum with its content: a mapping of one key."""

    __slots__ = ()


def decode_yaml(data: bytes) -> Json:
    """Return the value that the document *data* holds, None for an empty one.

    Raises:
        CorruptionError: *data* is not YAML, or holds what such a file never does (aliases,
            foreign tags).
    """
    return plain(decode_tagged(data))


def decode_tagged(data: bytes) -> object:
    """Return what ``decode_yaml`` does, with the mappings that were tags as ``Variant``."""
    if len(data) > _MAX_SIZE:
        raise CorruptionError(f"a config.yaml of {len(data)} bytes is too large to be one")
    try:
        # A SafeLoader with fewer types, which builds plain values only.
        tagged: object = yaml.load(data, Loader=_Loader)
        plain(tagged)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        reason = " ".join(str(exc).split())  # on one line
        raise CorruptionError(f"the config.yaml is damaged: {reason}") from None
    return tagged


class _Loader(yaml.SafeLoader):
    """Knows the scalars of YAML 1.2 only: ``no`` and ``12:30`` and dates are strings."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases: nobody writes them here, and a few lines of them fill the memory."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("there is an alias in it")
        return super().compose_node(parent, index)


def _variant(loader: _Loader, name: str, node: yaml.Node) -> Variant:
    if isinstance(node, yaml.MappingNode):
        return Variant({name: loader.construct_mapping(node, deep=True)})
    if isinstance(node, yaml.SequenceNode):
        return Variant({name: loader.construct_sequence(node, deep=True)})
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return Variant({name: node.value})  # in quotes it is a string, whatever it looks like
    tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
    return Variant({name: loader.construct_object(yaml.ScalarNode(tag, node.value))})


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node)
    return int(digits, 0 if digits.lstrip("+-").startswith(("0x", "0o")) else 10)


_Loader.yaml_implicit_resolvers = {}
_Loader.add_multi_constructor("!", _variant)
_Loader.add_constructor(_PREFIX + "int", _integer)
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
):
    _Loader.add_implicit_resolver(_PREFIX + _kind, re.compile(rf"^(?:{_pattern})$"), _first)
