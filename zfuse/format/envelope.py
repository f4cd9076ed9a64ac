"""What wraps every Icechunk file: the header, then one zstd frame that holds a flatbuffer.

Official readers refuse an uncompressed payload, a second frame and anything behind the
frame, so this one does too. Frames of the 1.x writers do not say how long their content is.

Frame format: RFC 8878, sections 3.1.1 (frames) and 3.1.1.2 (blocks).
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Self

import zstandard

from zfuse.errors import CorruptionError
from zfuse.format.header import HEADER_SIZE, Compression, FileHeader, FileType

MAX_PAYLOAD: Final = 2**31
"""Flatbuffers can not be larger than 2 GiB, so neither can what a frame unpacks to."""

_MAX_RATIO: Final = 1024
_ALWAYS_FINE: Final = 64 << 20
"""Payloads beyond this size must not be a thousand times what they are packed.

Files of real repositories unpack to 3 to 15 times their size; zstd bombs reach 30,000.
"""

WRITER: Final = f"zfuse-{version('zfuse')}"
"""What files say that wrote them; official readers cut it in two at the dash."""

DEFAULT_LEVEL: Final = 3

_MAX_BLOCK: Final = 128 * 1024
_RAW, _RLE, _COMPRESSED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Envelope:
    """The header of a file and its unpacked payload."""

    header: FileHeader
    payload: bytes

    @classmethod
    def decode(cls, data: bytes, *, expect: FileType) -> Self:
        """Unpack the file *data*.

        Memory stays in proportion to what the blocks of the frame really unpack to: a size
        that a damaged frame header claims is never allocated.

        Raises:
            CorruptionError: *data* is not a sound file of type *expect*.
            UnsupportedVersionError: it is of a newer specification.
        """
        header = FileHeader.decode(data, expect=expect)
        if header.compression is not Compression.ZSTD:
            raise CorruptionError("the file is not compressed, but the format demands zstd")
        return cls(header, _decompress(memoryview(data)[HEADER_SIZE:]))


def encode(
    file_type: FileType, spec_version: int, payload: bytes, *, level: int = DEFAULT_LEVEL
) -> bytes:
    """Return the file that holds *payload*, compressed with zstd at *level*.

    The frame says how long its content is, which official readers need to be fast.
    """
    header = FileHeader(file_type, Compression.ZSTD, spec_version, WRITER)
    return header.encode() + zstandard.ZstdCompressor(level=level).compress(payload)


def _decompress(frame: memoryview) -> bytes:
    if frame[:4] != zstandard.FRAME_HEADER:
        raise CorruptionError("no zstd frame follows the file header")
    try:
        size = zstandard.frame_content_size(frame)
        body = zstandard.frame_header_size(frame)
        has_checksum = zstandard.get_frame_parameters(frame).has_checksum
        most = _largest_content(frame, body, 4 if has_checksum else 0)
        if size > most:
            raise CorruptionError(f"a frame of {len(frame)} bytes can not hold {size}")
        if most == 0:
            return b""  # zstandard takes a limit of 0 for no limit
        content: bytes = zstandard.ZstdDecompressor().decompress(frame, max_output_size=most)
    except zstandard.ZstdError as exc:
        raise CorruptionError(f"the zstd frame is damaged: {exc}") from exc
    return content


def _largest_content(frame: memoryview, position: int, trailer: int) -> int:
    """Return how many bytes the blocks of *frame* can unpack to, or what is allowed if less.

    Raises:
        CorruptionError: the blocks are cut off, or do not end where the data end.
    """
    most, last = 0, False
    while not last:
        header = int.from_bytes(frame[position : position + 3], "little")
        position += 3
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind > _COMPRESSED or size > _MAX_BLOCK:
            raise CorruptionError("the zstd frame has a damaged block")
        most += _MAX_BLOCK if kind == _COMPRESSED else size
        position += 1 if kind == _RLE else size
        if position > len(frame):
            raise CorruptionError("the zstd frame is cut off")
    if position + trailer != len(frame):
        raise CorruptionError("the zstd frame does not end where the file ends")
    return min(most, MAX_PAYLOAD, max(_ALWAYS_FINE, _MAX_RATIO * len(frame)))
