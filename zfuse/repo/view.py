"""One version of the hierarchy: which nodes there are, and where."""

import logging
from collections.abc import Iterable, Mapping

from zfuse.errors import CorruptionError
from zfuse.format.snapshot import ArrayNode, Node, Snapshot
from zfuse.format.zarr_json import ArrayMetadata

log = logging.getLogger(__name__)


class HierarchyView:
    """The nodes of a snapshot by path, and the directories that they form.

    Paths are absolute, ``/`` is the root. Directories include implicit groups: paths that
    have no node of their own but nodes below. ``nbytes`` is about what this occupies in
    memory beyond the snapshot; ``not_shown`` tells path and reason of all that a directory
    tree cannot hold.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.nodes: dict[str, Node] = {}
        self.not_shown: list[tuple[str, str]] = []
        self._children: dict[str, dict[str, None]] = {"/": {}}
        self._metadata: dict[str, ArrayMetadata | None] = {}
        for node in snapshot.nodes:
            if _is_absolute(node.path):
                self._add(node)
            else:
                # No key of the official store leads to such a node either.
                self._hide(node.path, "its path is not absolute")
        for path in [p for p in self._children if isinstance(self.nodes.get(p), ArrayNode)]:
            self._find_hidden_nodes(path)
        self.nbytes = 200 * (len(self.nodes) + len(self._children)) + snapshot.nbytes

    def _add(self, node: Node) -> None:
        self.nodes.setdefault(node.path, node)
        path = node.path
        while path != "/":
            parent, _, name = path.rpartition("/")
            parent = parent or "/"
            siblings = self._children.setdefault(parent, {})
            if name in siblings:
                return
            siblings[name] = None
            path = parent

    def _hide(self, path: str, reason: str) -> None:
        log.warning("%s is not shown: %s", path, reason)
        self.not_shown.append((path, reason))

    def _find_hidden_nodes(self, path: str) -> None:
        """Note which directories below an array give way to its chunks.

        A reader that found a directory under a chunk's name would take it for the fill value.
        """
        array = self.nodes[path]
        metadata = self.metadata(array) if isinstance(array, ArrayNode) else None
        if metadata is None or metadata.chunk_key_encoding is None:
            return
        rank = len(metadata.shape)
        start = len(join(path, ""))
        pending = [path]
        while pending:
            above = pending.pop()
            for other in [join(above, name) for name in self.children(above)]:
                if metadata.chunk_key_encoding.decode(other[start:], rank) is not None:
                    self._hide(other, f"a chunk of {path} has its name, where that is written")
                pending.append(other)

    def node(self, path: str) -> Node | None:
        """Return the node at *path*, None for an implicit group or nothing."""
        return self.nodes.get(path)

    def is_directory(self, path: str) -> bool:
        """Tell whether *path* is a node or leads to one; the root always is."""
        return path in self.nodes or path in self._children

    def directories(self) -> Iterable[str]:
        """Return the paths of all directories."""
        return self._children.keys() | self.nodes.keys()

    def children(self, path: str) -> Mapping[str, None]:
        """Return the names directly below *path*, in the order of the snapshot."""
        return self._children.get(path, {})

    def metadata(self, node: ArrayNode) -> ArrayMetadata | None:
        """Return what the array's zarr.json says, None (and a log line) if it makes no sense."""
        try:
            return self._metadata[node.path]
        except KeyError:
            pass
        try:
            parsed = ArrayMetadata.parse(node.user_data)
        except CorruptionError as exc:
            self._hide(node.path, f"its chunks have no names: {exc}")
            self._metadata[node.path] = None
            return None
        if parsed.chunk_key_encoding is None:
            self._hide(node.path, "its chunk key encoding is unknown to this zfuse")
        self._metadata[node.path] = parsed
        return parsed


def join(path: str, name: str) -> str:
    """Return the path of the child *name* of *path*."""
    return f"/{name}" if path == "/" else f"{path}/{name}"


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and not path.startswith("//")
