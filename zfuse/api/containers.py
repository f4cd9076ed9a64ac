"""Virtual chunks: the containers that they lie in, and where each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from zfuse.api.object_stores import AnyObjectStoreConfig
from zfuse.format.config import VirtualChunkContainer as StoredContainer


@dataclass(slots=True)
class VirtualChunkContainer:
    """A place that virtual chunks may lie in: all locations that start with ``url_prefix``."""

    url_prefix: str
    store: AnyObjectStoreConfig
    name: str | None = None

    def to_stored(self) -> StoredContainer:
        """Return this as a repository's config stores it.

        Raises:
            InvalidInputError: no other process could read what lies there.
        """
        return StoredContainer(self.url_prefix, self.store.store_config(), self.name)


@dataclass(frozen=True, slots=True, eq=False)
class VirtualChunkSpec:
    """Where the chunk at *index* of an array is: bytes of somebody else's file."""

    index: Sequence[int]
    location: str
    offset: int
    length: int
    etag_checksum: str | None = None
    last_updated_at_checksum: datetime | None = None
