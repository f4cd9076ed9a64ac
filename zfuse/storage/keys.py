"""Which strings are keys.

One rule for all backends, so that what one store takes every store takes: a key is a relative
path of plain segments, stored verbatim. What a backend must encode on its way (percent signs
in a URL), it encodes and decodes itself.
"""

from zfuse.errors import InvalidInputError


def is_key(key: str) -> bool:
    """Tell whether *key* names an object inside the store's root."""
    return "\0" not in key and not any(part in {"", ".", ".."} for part in key.split("/"))


def check_key(key: str) -> None:
    """Raise InvalidInputError unless *key* is a key."""
    if not is_key(key):
        raise InvalidInputError(f"{key!r} is not a key: it must be a plain relative path")


def check_prefix(prefix: str) -> None:
    """Raise InvalidInputError if listing *prefix* would leave the store's root.

    A prefix is the beginning of a key, in the middle of a name or not; "" means everything.
    """
    directory, _, _ = prefix.rpartition("/")
    if prefix.startswith("/") or directory:
        check_key(directory)
    if "\0" in prefix:
        raise InvalidInputError(f"{prefix!r} is not the beginning of a key")
