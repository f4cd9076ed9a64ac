"""Where the work of the lower layers meets programs: twins of methods, and errors translated.

Everything that a program calls comes through here once, so that it sees the exceptions of this
interface alone.
"""

import functools
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
)
from contextlib import aclosing, contextmanager
from typing import Any, Concatenate, Final

from zfuse import errors, portal
from zfuse.api import exceptions
from zfuse.api.error_kind import ErrorKind

_TABLE: Final[tuple[tuple[type[Exception], type[exceptions.IcechunkError], ErrorKind], ...]] = (
    (
        errors.RepositoryNotFoundError,
        exceptions.RepositoryNotFoundError,
        ErrorKind.REPOSITORY_NOT_FOUND,
    ),
    (errors.NotFoundError, exceptions.NodeNotFoundError, ErrorKind.NODE_NOT_FOUND),
    (errors.AlreadyExistsError, exceptions.AlreadyExistsError, ErrorKind.NODE_ALREADY_EXISTS),
    (errors.ReadOnlyStoreError, exceptions.ReadOnlyStoreError, ErrorKind.READ_ONLY_STORE),
    (errors.ReadOnlyError, exceptions.ReadOnlyError, ErrorKind.READ_ONLY_REPOSITORY),
    (
        errors.ContainerNotAllowedError,
        exceptions.InvalidInputError,
        ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER,
    ),
    (errors.NotAllowedError, exceptions.SessionStateError, ErrorKind.NOT_ALLOWED),
    (
        errors.UnsupportedVersionError,
        exceptions.FormatError,
        ErrorKind.UNSUPPORTED_SPEC_VERSION,
    ),
    (errors.InvalidInputError, exceptions.InvalidInputError, ErrorKind.UNKNOWN),
    (errors.BusyError, exceptions.ConflictError, ErrorKind.UPDATE_ATTEMPTS_EXHAUSTED),
    (errors.ConflictError, exceptions.ConflictError, ErrorKind.BRANCH_UPDATE_CONFLICT),
    (
        errors.ChunkModifiedError,
        exceptions.StorageError,
        ErrorKind.VIRTUAL_CHUNK_MODIFIED,
    ),
    (errors.MissingObjectError, exceptions.StorageError, ErrorKind.OBJECT_NOT_FOUND),
    (errors.CorruptionError, exceptions.FormatError, ErrorKind.DESERIALIZATION),
    (errors.ObjectNotFoundError, exceptions.StorageError, ErrorKind.OBJECT_NOT_FOUND),
    (errors.StorageError, exceptions.StorageError, ErrorKind.OBJECT_STORE),
    (errors.ZfuseError, exceptions.InternalError, ErrorKind.UNKNOWN),
)
"""Per class of the engine's errors what a program gets; the first that fits."""


def official(error: errors.ZfuseError) -> exceptions.IcechunkError:
    """Return the exception that a program gets for *error*."""
    found, kind = next((to, kind) for of, to, kind in _TABLE if isinstance(error, of))
    if issubclass(found, exceptions.ConflictError):
        return exceptions.ConflictError(message=str(error), kind=kind)
    return found(str(error), kind)


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the engine raises in the block as the exception of this interface."""
    try:
        yield
    except errors.ZfuseError as exc:
        raise official(exc) from exc


@contextmanager
def refusing[E: errors.ZfuseError](
    of: type[E], to: type[exceptions.IcechunkError], kind: ErrorKind
) -> Iterator[None]:
    """Raise errors of the class *of*, but of no subclass, in the block as *to*."""
    try:
        yield
    except of as exc:
        if type(exc) is not of:
            raise
        raise to(str(exc), kind) from exc


def at_boundary[**P, R](work: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return *work* with its errors translated."""

    @functools.wraps(work)
    async def done(*args: P.args, **kwargs: P.kwargs) -> R:
        with translated():
            return await work(*args, **kwargs)

    return done


def twins[S, **P, R](
    work: Callable[Concatenate[S, P], Awaitable[R]],
) -> tuple[Callable[Concatenate[S, P], R], Callable[Concatenate[S, P], Coroutine[Any, Any, R]]]:
    """Return a blocking method and one to be awaited in asyncio that both do *work*."""
    return portal.twins(at_boundary(work))


def class_twins[S, **P, R](
    work: Callable[Concatenate[type[S], P], Awaitable[R]],
) -> "tuple[classmethod[S, P, R], classmethod[S, P, Coroutine[Any, Any, R]]]":
    """Return a blocking class method and one to be awaited that both do *work*."""
    blocking, awaited = twins(work)
    return classmethod(blocking), classmethod(awaited)


def static_twins[**P, R](
    work: Callable[P, Awaitable[R]],
) -> "tuple[staticmethod[P, R], staticmethod[P, Coroutine[Any, Any, R]]]":
    """Return a blocking function and one to be awaited, as static methods, that do *work*."""
    done = at_boundary(work)

    @functools.wraps(done)
    def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
        return portal.run(done, *args, **kwargs)

    @functools.wraps(done)
    async def awaited(*args: P.args, **kwargs: P.kwargs) -> R:
        return await portal.run_async(done, *args, **kwargs)

    name = work.__name__.lstrip("_")
    blocking.__name__, awaited.__name__ = name, f"{name}_async"
    return staticmethod(blocking), staticmethod(awaited)


def run[R](work: Callable[[], Awaitable[R]]) -> R:
    """Do *work* for ordinary code."""
    return portal.run(at_boundary(work))


def iterate[T](make: Callable[[], AsyncGenerator[T]]) -> Iterator[T]:
    """Yield what the generator that *make* returns yields, to ordinary code."""
    return portal.iterate(lambda: _translated(make))


def iterate_async[T](make: Callable[[], AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """Yield what the generator that *make* returns yields, in asyncio."""
    return portal.iterate_async(lambda: _translated(make))


async def _translated[T](make: Callable[[], AsyncGenerator[T]]) -> AsyncGenerator[T]:
    with translated():
        async with aclosing(make()) as values:
            async for value in values:
                yield value
