"""What the repository asks of an object store."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, NewType

import trio

from zfuse.byterange import ByteRange

Version = NewType("Version", str)
"""An opaque token (ETag or generation) that changes when the object does."""


class Absent:
    """The type of ``ABSENT``."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""Passed as *expect* to demand that the object does not exist yet."""

Expectation = Version | Absent | None


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of an object and the version they were read at."""

    data: bytes
    version: Version


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store tells about an object without sending it.

    ``last_modified_ns`` is in nanoseconds since 1970, as precise as the store keeps it.
    """

    key: str
    size: int
    last_modified_ns: int
    version: Version


@dataclass(frozen=True, slots=True)
class Unmodified:
    """Read only if the object is still the one that was referenced.

    ``etag`` is compared for equality, as If-Match does (surrounding quotes do not count);
    ``last_modified`` (whole seconds since 1970) as If-Unmodified-Since does: the object
    passes if it was last modified in that second or before. None is not checked.
    """

    etag: str | None = None
    last_modified: int | None = None


class Storage(ABC):
    """A flat namespace of immutable-by-convention objects.

    Instances are shared by all tasks of the process. Every method may wait for the network;
    every method raises StorageError (or a subclass), and nothing else, when the store fails.
    """

    bounds_silence: ClassVar[bool] = False
    """Whether a read fails by itself soon after bytes stop to arrive."""

    deletes_in_bulk: ClassVar[bool] = False
    """Whether ``delete_many`` takes little longer than ``delete``."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where this is, as a person would write it; never holds a secret."""

    @abstractmethod
    async def get(self, key: str) -> Blob:
        """Return the whole object.

        Raises:
            ObjectNotFoundError: there is no object under *key*.
        """

    @abstractmethod
    async def get_range(
        self, key: str, byte_range: ByteRange, *, unmodified: Unmodified | None = None
    ) -> bytes:
        """Return exactly the asked bytes, fewer only where the object ends.

        A range that starts at or beyond the end of the object gives ``b""``.

        Raises:
            ObjectNotFoundError: there is no object under *key*.
            PreconditionFailedError: the object is not what *unmodified* asks for.
        """

    @abstractmethod
    async def head(self, key: str) -> ObjectInfo:
        """Return size, time and version of the object.

        Raises:
            ObjectNotFoundError: there is no object under *key*.
        """

    @abstractmethod
    async def put(self, key: str, data: bytes, *, expect: Expectation = None) -> Version:
        """Store *data* under *key*, all of it or nothing, and return the new version.

        Raises:
            VersionMismatchError: the object is not in the state that *expect* names.
        """

    async def put_file(self, key: str, path: Path) -> None:
        """Store the bytes of a local file under *key*, all of them or nothing.

        Nobody may change the file any more: where it can, the store takes it as it is.
        """
        await self.put(key, await trio.to_thread.run_sync(path.read_bytes))

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove the object; removing an absent one is no error."""

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove the objects; who has many to remove calls it for some at the same time.

        Of those that are there all, some or none are left when it fails.
        """
        for key in keys:
            await self.delete(key)

    @abstractmethod
    def list(self, prefix: str) -> AsyncGenerator[ObjectInfo]:
        """Yield the objects whose keys start with *prefix*, in no particular order.

        Whoever may stop early closes it (``contextlib.aclosing``).
        """

    async def aclose(self) -> None:  # noqa: B027 - most backends hold nothing open
        """Release connections; the storage is not used afterwards."""


class PagedStorage(Storage):
    """A storage that lists in pages, so that a failed page can be asked for again."""

    @abstractmethod
    async def list_page(
        self, prefix: str, token: str | None
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """Return one page and the token that gives the next one.

        The first page has the token None, and the last one returns it.
        """

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo]:
        """Yield the objects of all pages."""
        token = None
        while True:
            page, token = await self.list_page(prefix, token)
            for info in page:
                yield info
            if token is None:
                return
