"""One memory budget for all caches of a mount.

Each cache is a cachetools LRU weighed in bytes. None of them has a limit of its own: the
budget has, and takes from the cache that holds most.
"""

import math
from collections.abc import Callable, Hashable

import cachetools


class WeighedCache[K: Hashable, V](cachetools.LRUCache[K, V]):
    """A least-recently-used cache whose entries weigh what *weigh* says, in bytes."""

    def __init__(self, weigh: Callable[[V], int]) -> None:
        super().__init__(maxsize=math.inf, getsizeof=weigh)


class MemoryBudget:
    """Keeps the sum of several caches within *limit* bytes.

    A cache may use what others leave free, and gives it back when they ask. The one
    exception to the limit: the newest entry of each cache stays, however large, because
    metadata that cannot be held at all would have to be read anew for every question.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._caches: list[WeighedCache[Hashable, object]] = []

    def cache[K: Hashable, V](self, weigh: Callable[[V], int]) -> WeighedCache[K, V]:
        """Return a new, empty cache that counts against this budget."""
        made: WeighedCache[K, V] = WeighedCache(weigh)
        self._caches.append(made)  # type: ignore[arg-type]
        return made

    @property
    def used(self) -> int:
        """Bytes held by all caches together."""
        return int(sum(cache.currsize for cache in self._caches))

    def insert[K: Hashable, V](self, cache: WeighedCache[K, V], key: K, value: V) -> None:
        """Put *value* into *cache* and evict what no longer fits."""
        cache.pop(key, None)
        cache[key] = value
        while self.used > self.limit:
            giving = [c for c in self._caches if len(c) > 1]
            if not giving:
                break
            max(giving, key=lambda c: c.currsize).popitem()
