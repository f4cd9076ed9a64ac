"""Patience with a store: repetition, deadlines, a limit of requests at once, and counts."""

import logging
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from zfuse.byterange import ByteRange
from zfuse.errors import (
    InvalidInputError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    PreconditionFailedError,
    StorageError,
    StorageTimeoutError,
    TransientStorageError,
    VersionMismatchError,
    ZfuseError,
)
from zfuse.storage.base import (
    Blob,
    Expectation,
    ObjectInfo,
    PagedStorage,
    Storage,
    Unmodified,
    Version,
)

logger = logging.getLogger(__name__)

_CONCURRENCY: Final = 128
_ANSWERS: Final = (
    InvalidInputError,
    ObjectNotFoundError,
    PreconditionFailedError,
    VersionMismatchError,
)
"""Errors by which a store answers a question, rather than fails."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try, and how long to wait in between (exponential, with full jitter).

    One attempt gets half of the time that is left, so that one which hangs leaves room for
    another, but not less than a third of the deadline while there is as much. A read from a
    storage that ends silence by itself gets all of it: a large body may be slow to arrive.
    """

    deadline_s: float = 30.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 5.0

    def pause(self, attempt: int) -> float:
        """Return how long to wait after the *attempt*-th attempt, the first being 1."""
        ceiling = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(attempt - 1, 30))
        return random.uniform(0, ceiling)

    def attempt_s(self, left_s: float) -> float:
        """Return what one attempt may take when *left_s* are left."""
        return min(left_s, max(left_s / 2, self.deadline_s / 3))

    @property
    def notice_s(self) -> float:
        """How long before the caller's own deadline to give up.

        So that he hears what failed instead of finding out that it is late; a busy mount may
        have to tell hundreds at once.
        """
        return min(self.deadline_s / 20, 1.0)


@dataclass(slots=True)
class StorageStats:
    """What a storage was asked for since it was opened; ``list`` counts pages.

    The verbs count calls, not attempts: the attempts are the calls and ``retries`` together.
    """

    get: int = 0
    get_range: int = 0
    head: int = 0
    put: int = 0
    delete: int = 0
    list: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    retries: int = 0
    errors: int = 0  # calls that failed for good; absent objects and lost races do not count

    @property
    def calls(self) -> int:
        """All calls of all verbs."""
        return self.get + self.get_range + self.head + self.put + self.delete + self.list


@dataclass(slots=True)
class _Call:
    """One call, over all its attempts."""

    what: str
    repeatable: bool  # a second time means the same as the first
    ends_itself: bool = False  # an attempt that hangs fails without being cut off
    started: float = field(default_factory=trio.current_time)
    attempts: int = 0
    last_error: TransientStorageError | None = None
    unanswered: bool = False  # an attempt was sent and nobody knows what became of it

    @property
    def why_no_answer(self) -> str:
        """The cause where no attempt failed by itself."""
        return "no answer" if self.attempts else "too many calls at once"


class RetryingStorage(Storage):
    """Passes every call on to *inner*, again and again while that may help.

    Each call ends before the policy's deadline, waiting for its turn included, with
    StorageTimeoutError if need be. At most *concurrency* calls are under way at once.

    A conditional put is repeated only when the store is certain not to have acted on it. If an
    answer got lost that raises OutcomeUnknownError, which the caller must clear up by looking.
    """

    def __init__(
        self, inner: Storage, policy: RetryPolicy | None = None, *, concurrency: int = _CONCURRENCY
    ) -> None:
        self._inner = inner
        self._policy = policy or RetryPolicy()
        self._turns = trio.Semaphore(concurrency, max_value=concurrency)
        self.stats = StorageStats()

    @property
    def url(self) -> str:
        """Return the inner storage's URL."""
        return self._inner.url

    async def get(self, key: str) -> Blob:
        """Return the whole object."""
        self.stats.get += 1
        blob = await self._patiently(f"get {key}", lambda: self._inner.get(key), is_read=True)
        self.stats.bytes_in += len(blob.data)
        return blob

    async def get_range(
        self, key: str, byte_range: ByteRange, *, unmodified: Unmodified | None = None
    ) -> bytes:
        """Return the asked bytes."""
        self.stats.get_range += 1
        data = await self._patiently(
            f"get {key}",
            lambda: self._inner.get_range(key, byte_range, unmodified=unmodified),
            is_read=True,
        )
        self.stats.bytes_in += len(data)
        return data

    async def head(self, key: str) -> ObjectInfo:
        """Return size, time and version."""
        self.stats.head += 1
        return await self._patiently(f"head {key}", lambda: self._inner.head(key))

    async def put(self, key: str, data: bytes, *, expect: Expectation = None) -> Version:
        """Store *data* under *key*.

        Raises:
            OutcomeUnknownError: a conditional write was sent, and its answer lost.
        """
        self.stats.put += 1
        self.stats.bytes_out += len(data)
        return await self._patiently(
            f"put {key}",
            lambda: self._inner.put(key, data, expect=expect),
            repeatable=expect is None,
        )

    async def put_file(self, key: str, path: Path) -> None:
        """Store the bytes of a local file."""
        self.stats.put += 1
        self.stats.bytes_out += await trio.to_thread.run_sync(os.path.getsize, path)
        await self._patiently(
            f"put {key}", lambda: self._inner.put_file(key, path), repeatable=True
        )

    async def delete(self, key: str) -> None:
        """Remove the object."""
        self.stats.delete += 1
        await self._patiently(f"delete {key}", lambda: self._inner.delete(key))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove the objects: each is a call of its own unless the storage takes them in bulk."""
        if not self._inner.deletes_in_bulk:
            await super().delete_many(keys)
            return
        self.stats.delete += len(keys)
        what = f"delete {len(keys)} objects"
        await self._patiently(what, lambda: self._inner.delete_many(keys))

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo]:
        """Yield the objects.

        Each page of a PagedStorage is a call with retries and a deadline; another storage is
        listed as it lists itself.
        """
        if not isinstance(self._inner, PagedStorage):
            self.stats.list += 1
            async with aclosing(self._inner.list(prefix)) as listing:
                async for info in listing:
                    yield info
            return
        inner, token = self._inner, None
        while True:
            self.stats.list += 1
            page, token = await self._patiently(
                f"list {prefix}", partial(inner.list_page, prefix, token)
            )
            for info in page:
                yield info
            if token is None:
                return

    async def aclose(self) -> None:
        """Close the inner storage."""
        await self._inner.aclose()

    async def _patiently[T](
        self,
        what: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        repeatable: bool = True,
        is_read: bool = False,
    ) -> T:
        call = _Call(what, repeatable, ends_itself=is_read and self._inner.bounds_silence)
        try:
            return await self._until_the_deadline(call, attempt)
        except ZfuseError as exc:
            if not isinstance(exc, _ANSWERS):
                self.stats.errors += 1
            raise

    async def _until_the_deadline[T](self, call: _Call, attempt: Callable[[], Awaitable[T]]) -> T:
        deadline = call.started + self._policy.deadline_s
        callers = trio.current_effective_deadline() - self._policy.notice_s
        if callers > call.started:
            deadline = min(deadline, callers)
        with trio.CancelScope(deadline=deadline):
            async with self._turns:
                return await self._attempts(call, attempt, deadline)
        raise self._given_up(call)

    async def _attempts[T](
        self, call: _Call, attempt: Callable[[], Awaitable[T]], deadline: float
    ) -> T:
        while True:
            left = deadline - trio.current_time()
            if left <= 0:  # the clock may pass the deadline without a checkpoint that tells
                raise self._given_up(call)
            call.attempts += 1
            call.unanswered = True
            patience = left if call.ends_itself else self._policy.attempt_s(left)
            try:
                with trio.move_on_after(patience):
                    return await attempt()
                error = TransientStorageError(f"no answer within {patience:.1f} s")
            except TransientStorageError as exc:
                error = exc
                call.unanswered = not exc.refused
            call.last_error = error
            if call.unanswered and not call.repeatable:
                raise self._given_up(call)
            self.stats.retries += 1
            await trio.sleep(self._policy.pause(call.attempts))

    def _given_up(self, call: _Call) -> StorageError:
        seconds = trio.current_time() - call.started
        told = (
            f"{self.url}: {call.what} failed after {call.attempts} attempts in {seconds:.1f} s"
            f" ({call.last_error or call.why_no_answer})"
        )
        # Whoever gets the error logs it louder, with the path that somebody asked for.
        logger.debug(told)
        if call.unanswered and not call.repeatable:
            return OutcomeUnknownError(f"{told}; whether it was written is not known")
        return StorageTimeoutError(f"{told}; is the store reachable?")
