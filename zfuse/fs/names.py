"""How names that a directory entry cannot hold are shown, and how to get them back.

A name is shown as it is wherever Linux allows that. The others are percent-encoded:

    ``/`` NUL            ``%2F`` ``%00``, and every ``%`` of such a name as ``%25``
    ``.`` and ``..``     ``%2E`` and ``%2E%2E``
    the empty name       ``%``
    ``zarr.json``        ``zarr%2Ejson`` for a node: the file of that name is its parent's metadata
    over 255 bytes       a beginning of the name, ``%~`` and 16 hex digits of its SHA-256

A name that merely looks like such an encoding is encoded itself, so that no two names
are ever shown alike. The last form is undone by looking among the names that exist.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

NAME_MAX: Final = 255
"""Most bytes that a shown name has."""

_HASHED: Final = re.compile(r"%~[0-9a-f]{16}\Z")
_PREFIX_BYTES: Final = 200


def encode_name(name: str) -> str:
    """Return what a directory shows for the node or ref segment *name*."""
    shown = _escape(name) if _needs_escape(name) else name
    if len(shown.encode("utf-8", "surrogatepass")) <= NAME_MAX:
        return shown
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    start = shown.encode("utf-8", "surrogatepass")[:_PREFIX_BYTES].decode("utf-8", "ignore")
    return f"{start}%~{digest}"


def decode_name(shown: str, existing: Iterable[str] = ()) -> str | None:
    """Return the name that a directory shows as *shown*.

    *existing* are the names that may be there; it is searched only for the shortened form.
    None where no name is shown like that.
    """
    if _HASHED.search(shown):
        return next((name for name in existing if encode_name(name) == shown), None)
    name = _unescape(shown)
    if name is not None and _needs_escape(name):
        return name if encode_name(name) == shown else None
    return shown if encode_name(shown) == shown else None


def _cannot_be_held(name: str) -> bool:
    return name in {"", ".", "..", "zarr.json"} or "/" in name or "\0" in name


def _needs_escape(name: str) -> bool:
    # "%" stands for the empty name.
    if _cannot_be_held(name) or name == "%" or _HASHED.search(name):
        return True
    if "%" not in name:
        return False
    inner = _unescape(name)
    return inner is not None and _escape(inner) == name and _needs_escape(inner)


def _escape(name: str) -> str:
    if name == "":
        return "%"
    escaped = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    if name in {".", "..", "zarr.json"}:
        escaped = escaped.replace(".", "%2E")
    return escaped


def _unescape(shown: str) -> str | None:
    if shown == "%":
        return ""
    if "%" not in shown:
        return None
    try:
        return unquote_to_bytes(shown).decode()
    except UnicodeError:
        return None
