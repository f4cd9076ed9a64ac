"""Branches and tags of version 1: where they are kept, and what their files hold.

Specification: spec-v1, "References".
"""

import json
from typing import Final
from urllib.parse import quote

from zfuse.errors import InvalidInputError
from zfuse.format.flat_writer import utf8
from zfuse.format.ids import SnapshotId
from zfuse.format.layout import REFS_PREFIX_V1

_LITERAL: Final = " :&'+,;=@!()$"
"""What the official library's store leaves as it is in local paths, beside letters, digits,
``-``, ``.``, ``_``, and ``~``, which is not."""
_LONGEST_NAME: Final = 255  # bytes, in a directory of Linux


def encode_ref(snapshot_id: SnapshotId) -> bytes:
    """Return the content of the ``ref.json`` of a branch or tag at *snapshot_id*."""
    return json.dumps({"snapshot": str(snapshot_id)}, separators=(",", ":")).encode()


def branch_key(name: str, *, encoded_names: bool) -> str:
    """Return where the branch *name* is kept; see ``tag_key``."""
    return _ref_key("branch", name, encoded_names=encoded_names)


def tag_key(name: str, *, encoded_names: bool) -> str:
    """Return where the tag *name* is kept.

    *encoded_names* says that the store keeps names percent-encoded (local directories).

    Raises:
        InvalidInputError: version 1 can not hold such a name.
    """
    return _ref_key("tag", name, encoded_names=encoded_names)


def tombstone_key(name: str, *, encoded_names: bool) -> str:
    """Return the key of the empty object that says that the tag *name* was deleted."""
    return f"{tag_key(name, encoded_names=encoded_names)}.deleted"


def _ref_key(kind: str, name: str, *, encoded_names: bool) -> str:
    if "/" in name:
        raise InvalidInputError(f"{name!r}: names in a version 1 repository can not have a slash")
    stored = f"{kind}.{encode_name(name) if encoded_names else name}"
    if encoded_names and len(stored) > _LONGEST_NAME:
        raise InvalidInputError(
            f"{name!r:.40} is too long: in a version 1 repository it is the name of a directory"
        )
    return f"{REFS_PREFIX_V1}{stored}/ref.json"


def encode_name(name: str) -> str:
    """Return *name* percent-encoded as the official library's store has it in local paths."""
    return quote(utf8(name), safe=_LITERAL).replace("~", "%7E")
