"""Deleting the objects of one kind that nobody needs, by the thousand."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.maintenance.id_set import IdSet
from zfuse.repo.at_once import at_once
from zfuse.storage.base import ObjectInfo, Storage

U8 = npt.NDArray[np.uint8]
Choose = Callable[[Sequence[ObjectInfo]], Sequence[ObjectInfo]]

_BATCH: Final = 10_000
_SECOND_NS: Final = 1_000_000_000
_DIGITS: Final = 20
_ALPHABET: Final = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# An id of 96 bits has 20 digits of 5, so the last 4 bits of a file name are 0.
_NAME: Final = re.compile(f"[{_ALPHABET.decode()}]{{{_DIGITS - 1}}}[0G]")
_VALUES: Final = np.zeros(256, np.uint8)
_VALUES[np.frombuffer(_ALPHABET, np.uint8)] = np.arange(32)


@dataclass(slots=True)
class Swept:
    """How many objects went, and how many bytes these were."""

    count: int = 0
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Deletes objects of *storage*, some at once; each costs a request of its own.

    A store takes no more deletions a second in requests of a thousand than one by one, so that
    would save little. With ``dry_run`` they are only counted.
    """

    storage: Storage
    at_once: int
    dry_run: bool

    async def sweep(self, prefix: str, choose: Choose, tell: Callable[[int], None]) -> Swept:
        """Delete what *choose* picks from the objects under *prefix*, some thousand at a time.

        *tell* gets the number of objects that were looked at.
        """
        swept, seen = Swept(), 0
        async with aclosing(self._batches(prefix)) as batches:
            async for batch in batches:
                chosen = choose(batch)
                if not self.dry_run:
                    await self._delete([info.key for info in chosen])
                swept.count += len(chosen)
                swept.nbytes += sum(info.size for info in chosen)
                seen += len(batch)
                tell(seen)
        return swept

    async def _delete(self, keys: Sequence[str]) -> None:
        size = max(1, -(-len(keys) // self.at_once))
        parts = (keys[low : low + size] for low in range(0, len(keys), size))
        await at_once(
            (partial(self.storage.delete_many, part) for part in parts), most=self.at_once
        )

    async def _batches(self, prefix: str) -> AsyncGenerator[list[ObjectInfo]]:
        batch: list[ObjectInfo] = []
        async with aclosing(self.storage.list(prefix)) as listing:
            async for info in listing:
                batch.append(info)
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch


def stored_by_ns(info: ObjectInfo) -> int:
    """Return when an object was stored at the latest, in nanoseconds since 1970.

    Object stores tell the second in which that was.
    """
    told = info.last_modified_ns
    return told if told % _SECOND_NS else told + _SECOND_NS - 1


def unneeded(prefix: str, kept: IdSet, older_than: int) -> Choose:
    """Return what picks objects under *prefix* whose id is not *kept*, stored before *older_than*.

    *older_than* is in microseconds since 1970. What is not named by an id is nobody's.
    """

    def choose(infos: Sequence[ObjectInfo]) -> Sequence[ObjectInfo]:
        old = [
            info
            for info in infos
            if stored_by_ns(info) < older_than * 1000 and _NAME.fullmatch(info.key, len(prefix))
        ]
        if not old:
            return []
        needed = kept.has(_ids([info.key[len(prefix) :] for info in old]))
        return [info for info, is_needed in zip(old, needed.tolist(), strict=True) if not is_needed]

    return choose


def _ids(names: Sequence[str]) -> U8:
    """Return the ids (n, 12) that *names* spell."""
    digits = np.frombuffer("".join(names).encode(), np.uint8).reshape(-1, _DIGITS)
    bits = np.unpackbits(_VALUES[digits][:, :, None], axis=2)[:, :, 3:]
    return np.packbits(bits.reshape(len(names), -1)[:, :96], axis=1)
