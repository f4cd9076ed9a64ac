"""A storage that counts what it is asked for, and fails on demand."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from zfuse.byterange import ByteRange
from zfuse.storage.base import (
    Blob,
    Expectation,
    ObjectInfo,
    Storage,
    Unmodified,
    Version,
)


@dataclass(eq=False)
class CountingStorage(Storage):
    """Passes every call on to *inner*.

    ``calls`` are the operations and keys in their order, ``fetched`` the bytes that came
    by key. ``before`` is awaited before each read, with operation and key: what it raises
    the caller gets.
    """

    inner: Storage
    calls: list[tuple[str, str]] = field(default_factory=list)
    fetched: Counter[str] = field(default_factory=Counter)
    before: Callable[[str, str], Awaitable[None]] | None = None

    @property
    def url(self) -> str:
        return self.inner.url

    def reset(self) -> None:
        """Count from zero again."""
        self.calls.clear()
        self.fetched.clear()

    def keys(self, operation: str) -> list[str]:
        """Return the keys that *operation* was called for."""
        return [key for called, key in self.calls if called == operation]

    async def _count(self, operation: str, key: str) -> None:
        self.calls.append((operation, key))
        if self.before is not None:
            await self.before(operation, key)

    async def get(self, key: str) -> Blob:
        await self._count("get", key)
        blob = await self.inner.get(key)
        self.fetched[key] += len(blob.data)
        return blob

    async def get_range(
        self, key: str, byte_range: ByteRange, *, unmodified: Unmodified | None = None
    ) -> bytes:
        await self._count("get_range", key)
        data = await self.inner.get_range(key, byte_range, unmodified=unmodified)
        self.fetched[key] += len(data)
        return data

    async def head(self, key: str) -> ObjectInfo:
        await self._count("head", key)
        return await self.inner.head(key)

    async def put(self, key: str, data: bytes, *, expect: Expectation = None) -> Version:
        await self._count("put", key)
        return await self.inner.put(key, data, expect=expect)

    async def delete(self, key: str) -> None:
        await self._count("delete", key)
        await self.inner.delete(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._count("list", prefix)
        async for info in self.inner.list(prefix):
            yield info
