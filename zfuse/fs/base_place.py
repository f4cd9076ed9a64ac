"""Where a shown path leads in the base of a session: to a node, or to chunks of an array."""

from collections.abc import Sequence
from dataclasses import dataclass

from zfuse.format.chunk_names import ChunkNames
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.fs.names import decode_name, encode_name
from zfuse.fs.staged import Path
from zfuse.repo.view import HierarchyView, join


@dataclass(frozen=True, slots=True)
class BasePlace:
    """A place in a version: the directory of a node or an implicit group, and names below it.

    ``names`` is empty for the directory itself; else they are of chunks, of directories that
    lead to chunks, or of nothing.
    """

    view: HierarchyView
    node_path: str
    names: Path = ()

    @property
    def node(self) -> Node | None:
        """The node whose directory this is, None if it is no node's."""
        return None if self.names else self.view.node(self.node_path)

    def child(self, name: str) -> "BasePlace":
        """Return the place of *name* below this one."""
        if not self.names:
            segment = decode_name(name, self.view.children(self.node_path))
            path = None if segment is None else join(self.node_path, segment)
            if path not in (None, self.node_path) and self.view.is_directory(path):
                return BasePlace(self.view, path)
        return BasePlace(self.view, self.node_path, (*self.names, name))

    def walk(self, path: Path) -> "BasePlace":
        """Return the place that *path* leads to from here."""
        place = self
        for name in path:
            place = place.child(name)
        return place

    def nodes(self) -> list[Node]:
        """Return the node here and all below."""
        if self.names:
            return []
        found: list[Node] = []
        pending = [self.node_path]
        while pending:
            path = pending.pop()
            node = self.view.node(path)
            if node is not None:
                found.append(node)
            pending += [join(path, name) for name in self.view.children(path)]
        return found

    def chunks(self) -> "ChunkPlace | None":
        """Return which chunks of which array the place may stand for, None for none.

        Where nodes lie below an array, a directory may be one's and lead to its chunks too.
        """
        path, names = self.node_path, self.names
        while True:
            node = self.view.node(path)
            if names and isinstance(node, ArrayNode):
                found = _chunk_place(self.view, node, names)
                if found is not None:
                    return found
            if path == "/":
                return None
            above, _, segment = path.rpartition("/")
            path, names = above or "/", (encode_name(segment), *names)


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """One chunk of an array, or all whose index starts with ``prefix``.

    ``depth`` is how many names below the array the place is.
    """

    array: ArrayNode
    names: ChunkNames
    prefix: tuple[int, ...]
    depth: int
    is_chunk: bool


def _chunk_place(view: HierarchyView, array: ArrayNode, path: Path) -> ChunkPlace | None:
    """Return what *path* below an array leads to."""
    names = chunk_names(view, array)
    if names is None:
        return None
    above = names.find_directory(path[:-1])
    if above is not None and len(path) == names.depth + 1:
        coords = names.leaf(above, path[-1])
        return (
            None if coords is None else ChunkPlace(array, names, coords, len(path), is_chunk=True)
        )
    prefix = names.find_directory(path)
    return None if prefix is None else ChunkPlace(array, names, prefix, len(path), is_chunk=False)


def chunk_names(view: HierarchyView, array: ArrayNode) -> ChunkNames | None:
    """Return how the chunks of an array are called, None where that is not known."""
    metadata = view.metadata(array)
    if metadata is None or metadata.chunk_key_encoding is None:
        return None
    return ChunkNames(metadata.chunk_key_encoding, len(array.shape))


def shown(path: Sequence[str]) -> str:
    """Return a shown path for people."""
    return "/" + "/".join(path)
