"""Locations of virtual chunks that a manifest keeps compressed.

Specification: spec-v2, "Chunk Manifest Files", ``location_dictionary``.
"""

from contextlib import suppress
from threading import Lock
from typing import Final

import zstandard

from zfuse.errors import CorruptionError

_MAX_LOCATION: Final = 1024
_ZSTD_WITH_DICTIONARY: Final = 1


class LocationDecompressor:
    """Unpacks the locations of one manifest, each a zstd frame that needs the dictionary.

    ``dictionary`` is None where the manifest has none that is sound.
    """

    __slots__ = ("_decompressor", "_lock", "dictionary")

    def __init__(self, algorithm: int, dictionary: bytes | None) -> None:
        self._lock = Lock()  # a ZstdDecompressor serves one thread at a time
        self._decompressor = None
        self.dictionary: bytes | None = None
        if algorithm == _ZSTD_WITH_DICTIONARY and dictionary is not None:
            # The locations may be beyond help then, what else the manifest holds is not.
            with suppress(zstandard.ZstdError):
                self._decompressor = zstandard.ZstdDecompressor(
                    zstandard.ZstdCompressionDict(dictionary)
                )
                self.dictionary = dictionary

    def decompress(self, frame: bytes) -> str:
        """Return the location that *frame* holds.

        Raises:
            CorruptionError: it does not unpack to at most 1024 bytes of UTF-8, or the
                manifest has no sound dictionary.
        """
        if self._decompressor is None:
            raise CorruptionError(
                "a location is compressed, but the manifest has no sound dictionary for it"
            )
        try:
            if zstandard.frame_content_size(frame) > _MAX_LOCATION:
                raise CorruptionError(f"a location is longer than {_MAX_LOCATION} bytes")
            with self._lock:
                location: bytes = self._decompressor.decompress(
                    frame, max_output_size=_MAX_LOCATION, allow_extra_data=False
                )
            return location.decode()
        except (zstandard.ZstdError, UnicodeDecodeError) as exc:
            raise CorruptionError(f"a compressed location is damaged: {exc}") from None
