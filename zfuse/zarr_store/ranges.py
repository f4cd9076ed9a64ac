"""The ranges of bytes that zarr asks for."""

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest

from zfuse.byterange import ByteRange


def check_request(request: object) -> None:
    """Make sure that *request* is one of zarr's, or None for everything.

    Raises:
        TypeError: it is anything else.
    """
    known = RangeByteRequest | OffsetByteRequest | SuffixByteRequest | None
    if not isinstance(request, known):
        raise TypeError(f"Unexpected byte_range, got {request!r}")


def byte_range(request: ByteRequest | None, size: int) -> ByteRange:
    """Return which bytes of a value of *size* bytes are meant, as far as it has them.

    Raises:
        InvalidInputError: a range begins before the value.
    """
    match request:
        case RangeByteRequest(start, end):
            start = min(start, size)
            return ByteRange(start, max(start, min(end, size)))
        case OffsetByteRequest(offset):
            return ByteRange(min(offset, size), size)
        case SuffixByteRequest(suffix):
            return ByteRange(size - min(max(suffix, 0), size), size)
        case None:
            return ByteRange(0, size)
