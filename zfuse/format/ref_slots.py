"""The fields of the table ChunkRef, as positions in the public flatbuffers schema of manifests."""

from typing import Final

INDEX: Final = 0
INLINE: Final = 1
OFFSET: Final = 2
LENGTH: Final = 3
CHUNK_ID: Final = 4
LOCATION: Final = 5
ETAG: Final = 6
LAST_MODIFIED: Final = 7
COMPRESSED_LOCATION: Final = 8
