"""Writes transaction logs.

Specification: spec-v2, "Transaction Log Files".
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from zfuse.format.envelope import DEFAULT_LEVEL, encode
from zfuse.format.flat_writer import REF, FlatWriter, utf8
from zfuse.format.header import FileType
from zfuse.format.ids import NodeId
from zfuse.format.index_keys import in_order, places_of
from zfuse.format.ragged import Ragged
from zfuse.format.row_writer import RowKind, write_rows
from zfuse.format.transaction_log import MoveOperation, TransactionLog

U32 = npt.NDArray[np.uint32]

_GROUP, _ARRAY = 0, 1  # the enum NodeType


def encode_transaction_log(log: TransactionLog, *, level: int = DEFAULT_LEVEL) -> bytes:
    """Return the file of *log*, written to its ``spec_version``.

    Indices of updated chunks may come in any order and more than once, arrays without any
    are left out. Version 1 knows no moves.
    """
    chunks = {
        node_id: [part for part in log.updated_chunks[node_id] if len(part)]
        for node_id in sorted(log.updated_chunks)
    }
    w = FlatWriter()
    updated = [
        w.table((0, "8s", node_id), (1, REF, w.block(_indices(parts))))
        for node_id, parts in chunks.items()
        if parts
    ]
    root = w.table(
        (0, "12s", log.id),
        (1, REF, _ids(w, log.new_groups)),
        (2, REF, _ids(w, log.new_arrays)),
        (3, REF, _ids(w, log.deleted_groups)),
        (4, REF, _ids(w, log.deleted_arrays)),
        (5, REF, _ids(w, log.updated_arrays)),
        (6, REF, _ids(w, log.updated_groups)),
        (7, REF, w.offsets(updated)),
        (8, REF, None if log.spec_version == 1 else _moves(w, log.moved_nodes)),
    )
    return encode(FileType.TRANSACTION_LOG, log.spec_version, w.finish(root), level=level)


def _ids(w: FlatWriter, node_ids: Iterable[NodeId]) -> int:
    ordered = sorted(node_ids)
    return w.vector(b"".join(ordered), len(ordered))


def _indices(parts: Sequence[U32]) -> U32:
    """Return the vector of the chunk indices in *parts*, of whichever ranks."""
    ranks = sorted({part.shape[1] for part in parts})
    by_rank = [
        in_order(np.concatenate([part for part in parts if part.shape[1] == rank]))
        for rank in ranks
    ]
    kinds = [RowKind(rows, own) for rows, own in zip(places_of(by_rank), by_rank, strict=True)]
    return write_rows(kinds, Ragged.absent(0))


def _moves(w: FlatWriter, moves: Iterable[MoveOperation]) -> int:
    return w.offsets(
        [
            w.table(
                (0, REF, w.string(move.source)),
                (1, REF, w.string(move.target)),
                (2, "8s", move.node_id),
                (3, "B", _ARRAY if move.is_array else _GROUP),
            )
            for move in sorted(moves, key=_move_order)
        ]
    )


def _move_order(move: MoveOperation) -> list[bytes]:
    """Return the segments of the target: each node shall be followed by what lies below it."""
    return utf8(move.target).split(b"/")
