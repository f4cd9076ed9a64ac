import tracemalloc

import pytest
import zstandard

from tests.format.building import unwrap, wrap
from zfuse.errors import CorruptionError
from zfuse.format.envelope import Envelope
from zfuse.format.header import HEADER_SIZE, Compression, FileHeader, FileType

PAYLOAD = bytes(range(256)) * 2000
FILE = wrap(FileType.SNAPSHOT, PAYLOAD)
HEADER = FILE[:HEADER_SIZE]
SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"


def decode(data):
    return Envelope.decode(data, expect=FileType.SNAPSHOT)


def refused(data, match):
    with pytest.raises(CorruptionError, match=match):
        decode(data)


def test_header_and_payload():
    envelope = decode(FILE)
    assert envelope.payload == PAYLOAD == unwrap(FILE)
    assert envelope.header == FileHeader(FileType.SNAPSHOT, Compression.ZSTD, 2, "zfuse tests")


@pytest.mark.parametrize("payload", [b"", b"x", bytes(300_000), PAYLOAD])
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("checked", [True, False])
def test_every_form_of_frame(payload, sized, checked):
    data = wrap(
        FileType.SNAPSHOT, payload, write_content_size=sized, write_checksum=checked, level=1
    )
    assert decode(data).payload == payload


def test_frame_written_as_a_stream():
    compressor = zstandard.ZstdCompressor().compressobj()
    pieces = [
        compressor.compress(PAYLOAD[:1000]),
        compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
    ]
    pieces += [compressor.compress(PAYLOAD[1000:]), compressor.flush()]
    assert decode(HEADER + b"".join(pieces)).payload == PAYLOAD


def test_window_of_a_gigabyte_is_refused():
    frame = bytearray(zstandard.ZstdCompressor(write_content_size=False).compress(PAYLOAD))
    frame[5] = (30 - 10) << 3  # the window descriptor
    assert zstandard.get_frame_parameters(bytes(frame)).window_size == 1 << 30
    assert _peak(HEADER + frame) < 4 << 20


def test_uncompressed_is_refused():
    header = FileHeader(FileType.SNAPSHOT, Compression.NONE, 2, "x").encode()
    refused(header + PAYLOAD, "not compressed")


@pytest.mark.parametrize(
    "more", [b"x", b"\0", FILE[HEADER_SIZE:], SKIPPABLE], ids=["x", "nul", "frame", "skippable"]
)
def test_anything_behind_the_frame_is_refused(more):
    refused(FILE + more, "does not end where the file ends")


def test_skippable_frame_first_is_refused():
    refused(HEADER + SKIPPABLE + FILE[HEADER_SIZE:], "no zstd frame")


def test_frame_that_needs_a_dictionary_is_refused():
    dictionary = zstandard.train_dictionary(
        1024, [f"s3://bucket/{n}/file".encode() * 4 for n in range(100)]
    )
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(PAYLOAD)
    refused(HEADER + frame, "damaged")


@pytest.mark.parametrize("sized", [True, False])
def test_every_truncation_is_refused(sized):
    data = wrap(FileType.SNAPSHOT, PAYLOAD[:700], write_content_size=sized)
    for size in range(len(data)):
        with pytest.raises(CorruptionError):
            decode(data[:size])


def test_wrong_checksum_is_refused():
    data = bytearray(wrap(FileType.SNAPSHOT, PAYLOAD, write_checksum=True))
    data[-1] ^= 1
    refused(bytes(data), "damaged")


def _frame(claimed, blocks):
    """Return a frame whose header says that it holds *claimed* bytes."""
    return b"\x28\xb5\x2f\xfd\xe0" + claimed.to_bytes(8, "little") + b"".join(blocks)


def _repeated(size, *, last):
    """Return a block of *size* times the same byte."""
    return (size << 3 | 1 << 1 | last).to_bytes(3, "little") + b"\0"


def _peak(data):
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError):
            decode(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claimed", [1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 3])
def test_claimed_size_is_not_allocated(claimed):
    assert _peak(HEADER + _frame(claimed, [_repeated(1000, last=True)])) < 1 << 20


def test_bomb_is_not_unpacked():
    blocks = [_repeated(1 << 17, last=False)] * 8000 + [_repeated(1 << 17, last=True)]
    bomb = HEADER + _frame(8001 << 17, blocks)
    assert len(bomb) < 33_000
    assert _peak(bomb) < 1 << 20


def test_well_packed_file_is_no_bomb():
    payload = bytes(48 << 20)
    data = wrap(FileType.SNAPSHOT, payload)
    assert len(data) * 1024 < len(payload)
    assert decode(data).payload == payload


@pytest.mark.parametrize("block", [b"\x07\0\0", b"\xff\xff\xff", b"\x01", b""])
def test_damaged_blocks(block):
    with pytest.raises(CorruptionError):
        decode(HEADER + _frame(5, [block]))
