"""The files of a repository that has no data yet.

Every repository starts with the same empty snapshot, so these files are constant but for the
moment of creation and the name of the writing program.

Specification: spec-v2, "Repo Info File", "Snapshot Files", "Transaction Log Files"; spec-v1.
The numbers are field positions in the public flatbuffers schemas.
"""

from collections.abc import Sequence
from typing import Final

import flatbuffers
import msgpack
import zstandard
from flatbuffers import flexbuffers

from zfuse.format.header import Compression, FileHeader, FileType
from zfuse.format.ids import INITIAL_SNAPSHOT
from zfuse.format.repo_info import UpdateKind

INITIAL_MESSAGE: Final = "Repository initialized"
_METADATA_KEY: Final = "__icechunk"
_METADATA: Final = {"is_root": True}
_IDENTIFIER: Final = b"Ichk"
_NO_PARENT: Final = -1
_LEVEL: Final = 3


def encode_initial_snapshot(*, spec_version: int, flushed_at: int, writer: str) -> bytes:
    """Return the snapshot file without nodes; *flushed_at* is in microseconds since 1970."""
    b = flatbuffers.Builder(512)
    message = b.CreateString(INITIAL_MESSAGE)
    metadata = _metadata(b, spec_version)
    nodes = _offsets(b, [])
    # A vector of structs: its element size and alignment count even where it is empty.
    manifest_files = _empty_structs(b, size=32, alignment=8)
    manifest_files_v2 = _offsets(b, []) if spec_version > 1 else None
    b.StartObject(9)
    b.PrependStructSlot(0, _object_id(b), 0)
    b.PrependUOffsetTRelativeSlot(2, nodes, 0)
    b.PrependUint64Slot(3, flushed_at, 0)
    b.PrependUOffsetTRelativeSlot(4, message, 0)
    b.PrependUOffsetTRelativeSlot(5, metadata, 0)
    b.PrependUOffsetTRelativeSlot(6, manifest_files, 0)
    if manifest_files_v2 is not None:
        b.PrependUOffsetTRelativeSlot(7, manifest_files_v2, 0)
    return _file(b, FileType.SNAPSHOT, spec_version, writer)


def encode_initial_transaction_log(*, spec_version: int, writer: str) -> bytes:
    """Return the transaction log of the initial snapshot, which changed nothing."""
    b = flatbuffers.Builder(256)
    lists = [_empty_structs(b, size=8, alignment=1) for _ in range(6)]
    updated_chunks = _offsets(b, [])
    b.StartObject(9)
    b.PrependStructSlot(0, _object_id(b), 0)
    for slot, vector in enumerate([*lists, updated_chunks], start=1):
        b.PrependUOffsetTRelativeSlot(slot, vector, 0)
    return _file(b, FileType.TRANSACTION_LOG, spec_version, writer)


def encode_initial_repo_info(*, flushed_at: int, writer: str) -> bytes:
    """Return the repo info whose branch ``main`` is at the initial snapshot."""
    b = flatbuffers.Builder(512)
    tags, deleted_tags = _offsets(b, []), _offsets(b, [])
    branches = _offsets(b, [_main(b)])
    snapshots = _offsets(b, [_snapshot_info(b, flushed_at)])
    updates = _offsets(b, [_initialized(b, flushed_at)])
    b.StartObject(3)
    b.PrependUint64Slot(1, flushed_at, 0)
    status = b.EndObject()
    b.StartObject(13)
    b.PrependUint8Slot(0, 2, 0)
    for slot, offset in enumerate([tags, branches, deleted_tags, snapshots, status], start=1):
        b.PrependUOffsetTRelativeSlot(slot, offset, 0)
    b.PrependUOffsetTRelativeSlot(7, updates, 0)
    return _file(b, FileType.REPO_INFO, 2, writer)


def _main(b: flatbuffers.Builder) -> int:
    name = b.CreateString("main")
    b.StartObject(2)
    b.PrependUOffsetTRelativeSlot(0, name, 0)
    b.PrependUint32Slot(1, 0, 0)
    return _end(b)


def _snapshot_info(b: flatbuffers.Builder, flushed_at: int) -> int:
    message = b.CreateString(INITIAL_MESSAGE)
    metadata = _metadata(b, 2)
    b.StartObject(6)
    b.PrependStructSlot(0, _object_id(b), 0)
    b.PrependInt32Slot(1, _NO_PARENT, 0)
    b.PrependUint64Slot(2, flushed_at, 0)
    b.PrependUOffsetTRelativeSlot(3, message, 0)
    b.PrependUOffsetTRelativeSlot(4, metadata, 0)
    return _end(b)


def _initialized(b: flatbuffers.Builder, flushed_at: int) -> int:
    b.StartObject(0)
    details = b.EndObject()
    b.StartObject(4)
    b.PrependUint8Slot(0, UpdateKind.REPO_INITIALIZED, 0)
    b.PrependUOffsetTRelativeSlot(1, details, 0)
    b.PrependUint64Slot(2, flushed_at, 0)
    return _end(b)


def _metadata(b: flatbuffers.Builder, spec_version: int) -> int:
    packed = msgpack.packb(_METADATA) if spec_version == 1 else flexbuffers.Dumps(_METADATA)
    value = b.CreateByteVector(bytes(packed))
    name = b.CreateString(_METADATA_KEY)
    b.StartObject(2)
    b.PrependUOffsetTRelativeSlot(0, name, 0)
    b.PrependUOffsetTRelativeSlot(1, value, 0)
    return _offsets(b, [_end(b)])


def _object_id(b: flatbuffers.Builder) -> int:
    """Put the id of the initial snapshot inline, as a table wants its structs."""
    b.Prep(1, len(INITIAL_SNAPSHOT))
    for byte in reversed(INITIAL_SNAPSHOT):
        b.PrependByte(byte)
    return int(b.Offset())


def _offsets(b: flatbuffers.Builder, items: Sequence[int]) -> int:
    b.StartVector(4, len(items), 4)
    for item in reversed(items):
        b.PrependUOffsetTRelative(item)
    return int(b.EndVector())


def _empty_structs(b: flatbuffers.Builder, *, size: int, alignment: int) -> int:
    b.StartVector(size, 0, alignment)
    return int(b.EndVector())


def _end(b: flatbuffers.Builder) -> int:
    return int(b.EndObject())


def _file(b: flatbuffers.Builder, file_type: FileType, spec_version: int, writer: str) -> bytes:
    b.Finish(b.EndObject(), file_identifier=_IDENTIFIER)
    header = FileHeader(file_type, Compression.ZSTD, spec_version, writer)
    return header.encode() + zstandard.ZstdCompressor(level=_LEVEL).compress(bytes(b.Output()))
