"""How the chunks of an array are named and numbered.

They are numbered by arithmetic: a chunk's index along all dimensions but the first is
folded by their lengths in chunks into one number. The first dimension's length plays no
part in it, so that an array can grow along it (time, as a rule) without renumbering.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import trio

from zfuse.format.chunk_names import ChunkNames
from zfuse.format.ids import NodeId
from zfuse.format.shard_index import ShardLayout
from zfuse.format.snapshot import ArrayNode
from zfuse.fs.tree import Tree
from zfuse.repo.view import HierarchyView


@dataclass(frozen=True)
class ArrayChunks:
    """What the entries of one array share.

    Equal where tree, node, its incarnation, names and folding lengths are; ``node`` and the
    rest belong to the version that it was made for. ``folds`` are the lengths in chunks of all
    dimensions but the first. ``rank`` is that of the index, which odd writers may let
    differ from the array's.
    """

    tree: Tree
    node_id: NodeId
    incarnation: int
    folds: tuple[int, ...]
    rank: int
    names: ChunkNames
    node: ArrayNode = field(compare=False)
    shard_layout: ShardLayout | None = field(compare=False)
    nursery: trio.Nursery = field(compare=False)

    @property
    def path(self) -> str:
        """The path of the array."""
        return self.node.path

    def fold(self, coords: Sequence[int], limit: int) -> int | None:
        """Return *coords* as one number, None where it would not be unique or reach *limit*."""
        if len(coords) > len(self.folds) + 1:
            return None
        number = coords[0] if coords else 0
        for coord, length in zip(coords[1:], self.folds, strict=False):
            if coord >= length:
                return None
            number = number * length + coord
        return number if number < limit else None

    def unfold(self, number: int, count: int) -> tuple[int, ...]:
        """Return the *count* coordinates that ``fold`` made *number* of."""
        coords: list[int] = []
        for length in reversed(self.folds[: max(count - 1, 0)]):
            number, coord = divmod(number, length)
            coords.append(coord)
        if count:
            coords.append(number)
        return tuple(reversed(coords))

    def of_rank(self, rank: int) -> "ArrayChunks":
        """Return the same for chunks whose index has *rank* numbers."""
        return replace(self, rank=rank, names=ChunkNames(self.names.encoding, rank))


def array_chunks(
    tree: Tree, view: HierarchyView, node: ArrayNode, nursery: trio.Nursery
) -> ArrayChunks | None:
    """Return how the chunks of *node* are shown, None where their names are not known."""
    metadata = view.metadata(node)
    if metadata is None or metadata.chunk_key_encoding is None:
        return None
    folds = tuple(max(dimension.num_chunks, 1) for dimension in node.shape[1:])
    rank = len(node.shape)
    return ArrayChunks(
        tree=tree,
        node_id=node.id,
        incarnation=tree.incarnation(node.path),
        folds=folds,
        rank=rank,
        names=ChunkNames(metadata.chunk_key_encoding, rank),
        node=node,
        shard_layout=metadata.shard_layout,
        nursery=nursery,
    )
