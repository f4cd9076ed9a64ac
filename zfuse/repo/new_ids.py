"""Fresh names for objects: random, so that nobody has to be asked."""

import secrets

from zfuse.format.ids import ObjectId


def new_id[I: ObjectId](kind: type[I]) -> I:
    """Return an id of the type *kind* that nothing has yet."""
    return kind(secrets.token_bytes(kind.SIZE))
