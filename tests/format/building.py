"""Builds files of the format by hand, also such as no writer makes.

A table is a dict of slots, a union is its type in one slot and its table in the next:

    table = {0: struct(b"12 bytes...."), 1: "a string", 2: b"a vector of bytes", 3: u64(5),
             4: {0: u32(1)}, 5: [{...}, {...}], 6: structs(16, b"...")}
"""

from dataclasses import dataclass
from typing import Any

import flatbuffers
import zstandard
from flatbuffers import flexbuffers

from zfuse.format.header import Compression, FileHeader, FileType


@dataclass(frozen=True)
class Scalar:
    method: str
    value: int


@dataclass(frozen=True)
class Struct:
    data: bytes
    align: int = 1


@dataclass(frozen=True)
class Structs:
    items: tuple[bytes, ...]
    size: int
    align: int = 1


@dataclass(frozen=True)
class RawString:
    """A string of bytes that need not be UTF-8."""

    data: bytes


@dataclass(frozen=True, eq=False)
class Shared:
    """A value that is written once, however often this object comes."""

    value: Any


def u8(value):
    return Scalar("PrependUint8Slot", value)


def u16(value):
    return Scalar("PrependUint16Slot", value)


def u32(value):
    return Scalar("PrependUint32Slot", value)


def i32(value):
    return Scalar("PrependInt32Slot", value)


def u64(value):
    return Scalar("PrependUint64Slot", value)


def struct(data, align=1):
    return Struct(bytes(data), align)


def structs(size, *items, align=1):
    return Structs(items, size, align)


def u32s(*values):
    return _numbers(4, values)


def u16s(*values):
    return _numbers(2, values)


def _numbers(size, values):
    return Structs(tuple(value.to_bytes(size, "little") for value in values), size, size)


def flexbuffer(value):
    return bytes(flexbuffers.Dumps(value))


def item(name, value):
    """Return a MetadataItem with the encoded *value*."""
    return {0: name, 1: value}


def build(root):
    """Return the flatbuffer of the table *root*."""
    builder = _Builder(1024)
    builder.ForceDefaults(True)
    builder.Finish(_table(builder, root), file_identifier=b"Ichk")
    return bytes(builder.Output())


def wrap(kind, payload, version=2, **parameters):
    """Return a file of *kind* that holds *payload*."""
    header = FileHeader(kind, Compression.ZSTD, version, "zfuse tests")
    return header.encode() + zstandard.ZstdCompressor(**parameters).compress(payload)


def unwrap(data):
    """Return the payload of a file."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(data[39:])


class _Builder(flatbuffers.Builder):
    """A builder that remembers where shared values are."""

    def __init__(self, size):
        super().__init__(size)
        self.shared = {}


def _table(builder, table):
    offsets = {slot: _offset(builder, value) for slot, value in table.items()}
    builder.StartObject(max(table, default=-1) + 1)
    for slot, value in table.items():
        match value:
            case Scalar():
                getattr(builder, value.method)(slot, value.value, 0)
            case Struct():
                builder.Prep(value.align, len(value.data))
                for byte in reversed(value.data):
                    builder.PrependByte(byte)
                builder.PrependStructSlot(slot, builder.Offset(), 0)
            case _:
                builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
    return builder.EndObject()


def _offset(builder, value):
    return _MAKERS[type(value)](builder, value)


def _inline(_builder, _value):
    return None


def _shared(builder, value):
    if value not in builder.shared:
        builder.shared[value] = _offset(builder, value.value)
    return builder.shared[value]


def _offsets(builder, values):
    offsets = [_offset(builder, value) for value in values]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _structs(builder, value):
    builder.StartVector(value.size, len(value.items), value.align)
    for byte in reversed(b"".join(value.items)):
        builder.PrependByte(byte)
    return builder.EndVector()


_MAKERS = {
    Scalar: _inline,
    Struct: _inline,
    str: flatbuffers.Builder.CreateString,
    RawString: lambda builder, value: builder.CreateString(value.data),
    bytes: flatbuffers.Builder.CreateByteVector,
    dict: _table,
    list: _offsets,
    Shared: _shared,
    Structs: _structs,
}


ID = bytes(range(12))
NODE = b"node0001"


def snapshot(version=2, **slots):
    """Return a snapshot file; *slots* (``s2=[...]``) replace parts of it, None removes them."""
    return _file(
        FileType.SNAPSHOT,
        version,
        slots,
        {
            0: struct(ID),
            2: [],
            3: u64(1_700_000_000_000_000),
            4: "message",
            5: [],
            6: structs(32, align=8),
            7: [],
        },
    )


def array_node(path="/a", node_id=NODE, document=b"{}", **slots):
    """Return a NodeSnapshot of an array; *slots* are those of its ArrayNodeData."""
    data = {0: structs(16, align=8), 2: [], 3: []} | _slots(slots)
    return {0: struct(node_id), 1: path, 2: document, 3: u8(1), 4: _clean(data)}


def group_node(path="/g", node_id=b"group001", document=b"{}"):
    return {0: struct(node_id), 1: path, 2: document, 3: u8(2), 4: {}}


def manifest(refs, version=2, node_id=NODE, **slots):
    """Return a manifest file with the ChunkRef tables *refs* for one array."""
    arrays = [{0: struct(node_id), 1: refs}]
    return _file(FileType.MANIFEST, version, slots, {0: struct(ID), 1: arrays})


def repo_info(version=2, **slots):
    """Return a repo info file with one snapshot and the branch main."""
    return _file(
        FileType.REPO_INFO,
        version,
        slots,
        {
            0: u8(2),
            1: [],
            2: [{0: "main", 1: u32(0)}],
            3: [],
            4: [snapshot_info()],
            5: {0: u8(0), 1: u64(5)},
            7: [],
        },
    )


def snapshot_info(raw_id=ID, parent=-1, **slots):
    """Return a SnapshotInfo; a *parent* of None leaves the field out."""
    table = {0: struct(raw_id), 1: None if parent is None else i32(parent), 2: u64(7), 3: "message"}
    return _clean(table | _slots(slots))


def transaction_log(version=2, **slots):
    """Return a transaction log file."""
    lists = {slot: structs(8) for slot in range(1, 7)}
    return _file(FileType.TRANSACTION_LOG, version, slots, {0: struct(ID), 7: []} | lists)


def _slots(named):
    return {int(name[1:]): value for name, value in named.items()}


def _clean(table):
    return {slot: value for slot, value in table.items() if value is not None}


def _file(kind, version, slots, table):
    return wrap(kind, build(_clean(table | _slots(slots))), version)
