"""Bringing the forks of a session together again, from wherever they were changed."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import zarr

from zfuse.api.session import ForkSession
from zfuse.api.store import IcechunkStore


def extract_session(
    array: zarr.Array[Any], axis: object = None, keepdims: object = None
) -> ForkSession:
    """Return the session that *array* belongs to; the other arguments mean nothing.

    Raises:
        TypeError: the array is not in a session.
    """
    store = array.store
    if not isinstance(store, IcechunkStore):
        raise TypeError(f"the array is in a {type(store).__name__}, not in a session")
    return cast(ForkSession, store.session)


def merge_sessions(*sessions: ForkSession | Sequence[Any]) -> ForkSession:
    """Merge all forks, in lists or lists of lists, into the first of them, and return that.

    Raises:
        SessionStateError: two changed the same thing differently.
        TypeError: something is no fork, or there is none.
    """
    # Tasks of one process often write through one fork, which need not be merged with itself.
    forks: list[ForkSession] = list({id(session): session for session in _flat(sessions)}.values())
    if not forks:
        raise TypeError("there are no forks to merge")
    for fork in forks:
        if not isinstance(fork, ForkSession):
            raise TypeError(
                f"{type(fork).__name__} is no fork; use session.merge(*forks) with what"
                " session.fork() returned"
            )
    first, *others = forks
    if others:
        first.merge(*others)
    return first


def _flat(sessions: Sequence[Any]) -> Iterator[Any]:
    for session in sessions:
        if isinstance(session, list | tuple):
            yield from _flat(session)
        else:
            yield session
