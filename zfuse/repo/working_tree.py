"""The nodes that a session shows: those of its base with its changes applied."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode, GroupNode, Node
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.documents import Document, GroupDocument, document_of, path_fault
from zfuse.repo.new_ids import new_id


class WorkingTree:
    """The current nodes by path, the directories they form, and the changes since the base.

    Semantics are those of the official library. Paths are absolute, ``/`` is the root; a
    directory without a node of its own is an implicit group. Nodes of the base whose paths
    are not canonical have no place here; a commit keeps them as they are.
    """

    def __init__(self, base: Iterable[Node], changes: ChangeSet | None = None) -> None:
        self.changes = changes or ChangeSet()
        self.nodes: dict[str, Node] = {}
        self._children: dict[str, dict[str, None]] = {"/": {}}
        for node in self.changes.apply(base):
            if path_fault(node.path) is None:
                self._put(node)

    def node(self, path: str) -> Node | None:
        """Return the node at *path*, None for an implicit group or nothing."""
        return self.nodes.get(path)

    def array(self, path: str) -> ArrayNode:
        """Return the array at *path*.

        Raises:
            NotFoundError: there is none.
        """
        node = self.nodes.get(path)
        if not isinstance(node, ArrayNode):
            raise NotFoundError(f"there is no array {path!r}")
        return node

    def is_directory(self, path: str) -> bool:
        """Tell whether *path* is a node or leads to one; the root always is."""
        return path in self.nodes or path in self._children

    def children(self, path: str) -> Mapping[str, None]:
        """Return the names directly below *path*."""
        return self._children.get(path, {})

    def subtree(self, path: str) -> list[Node]:
        """Return the node at *path*, if there is one, and all nodes below."""
        found: list[Node] = []
        pending = [path]
        while pending:
            place = pending.pop()
            if place in self.nodes:
                found.append(self.nodes[place])
            pending += [_join(place, name) for name in self._children.get(place, ())]
        return found

    def take_changes(self) -> ChangeSet:
        """Return the changes so far, and count further ones from here on."""
        taken, self.changes = self.changes, ChangeSet()
        return taken

    def set_metadata(self, path: str, document: Document) -> bool:
        """Give the node at *path* its zarr.json, and make it if there is none.

        An array keeps its id and its chunks, whatever its new grid. Returns whether that
        changes anything.

        Raises:
            AlreadyExistsError: the node is an array and *document* a group's, or the reverse.
            InvalidInputError: no node can have that path.
        """
        fault = path_fault(path)
        if fault is not None:
            raise InvalidInputError(f"{path!r} can not be committed: {fault}")
        node = self.nodes.get(path)
        if node is None:
            node_id = new_id(NodeId)
            self.changes.add(path, node_id, document)
            self._put(document.node(node_id, path))
            return True
        if isinstance(node, GroupNode) is not isinstance(document, GroupDocument):
            kind = "a group" if isinstance(node, GroupNode) else "an array"
            raise AlreadyExistsError(f"{path} is {kind}; delete it before it becomes another kind")
        if node.user_data == document.user_data:
            return False
        self.changes.update(node.id, document)
        if isinstance(node, ArrayNode) and not isinstance(document, GroupDocument):
            self.nodes[path] = document.node(node.id, path, node.manifests)
        else:
            self.nodes[path] = document.node(node.id, path)
        return True

    def delete(self, path: str) -> list[Node]:
        """Delete a group with all nodes below, or an array alone, and return what is gone.

        Nodes below an array stay, as does an implicit group; where nothing is, nothing happens.
        """
        node = self.nodes.get(path)
        gone: list[Node] = [] if node is None else [node]
        if isinstance(node, GroupNode):
            gone = self.subtree(path)
        for each in gone:
            self._delete(each)
        return gone

    def delete_node(self, path: str) -> Node | None:
        """Delete the node at *path* alone, a group too, and return it; what is below stays."""
        node = self.nodes.get(path)
        if node is not None:
            self._delete(node)
        return node

    def copy(self, nodes: Sequence[Node], source: str, target: str) -> list[tuple[Node, Node]]:
        """Make new nodes below *target* like *nodes*, which are those at *source* and below.

        Returns the nodes in pairs, each with its copy, which has no chunks yet.

        Raises:
            NotFoundError: there are no nodes.
            AlreadyExistsError: there is something at *target*.
            InvalidInputError: no node can be there.
        """
        self._check_arrival(target)
        if not nodes:
            raise NotFoundError(f"there is nothing at {source!r}")
        copies: list[tuple[Node, Node]] = []
        for node in nodes:
            below = "" if node.path == source else node.path.removeprefix(source.rstrip("/"))
            path = target.rstrip("/") + below if below else target
            self.set_metadata(path, document_of(node))
            copies.append((node, self.nodes[path]))
        return copies

    def move(self, source: str, target: str) -> list[Node]:
        """Move what is at *source* and below to *target*; return the nodes as they are now.

        Chunks go with their arrays without being touched.

        Raises:
            NotFoundError: there is nothing at *source*.
            AlreadyExistsError: there is something at *target*.
            InvalidInputError: *target* is below *source*, or no node can be there.
        """
        if source in {"/", target} or target.startswith(source + "/"):
            raise InvalidInputError(f"{source} can not be moved to {target}, into itself")
        self._check_arrival(target)
        nodes = self.subtree(source)
        if not nodes:
            raise NotFoundError(f"there is nothing at {source!r}")
        for node in nodes:
            self._drop(node.path)
        return [self._move(node, target + node.path.removeprefix(source)) for node in nodes]

    def _check_arrival(self, target: str) -> None:
        fault = path_fault(target)
        if fault is not None:
            raise InvalidInputError(f"{target!r} can not be committed: {fault}")
        if target in self.nodes or self._children.get(target):
            raise AlreadyExistsError(f"{target} exists; delete it first")

    def _move(self, node: Node, target: str) -> Node:
        self.changes.move(node, target)
        moved = replace(node, path=target)
        self._put(moved)
        return moved

    def _delete(self, node: Node) -> None:
        self.changes.delete(node)
        self._drop(node.path)

    def _put(self, node: Node) -> None:
        self.nodes[node.path] = node
        path = node.path
        while path != "/":
            parent, _, name = path.rpartition("/")
            parent = parent or "/"
            siblings = self._children.setdefault(parent, {})
            if name in siblings:
                return
            siblings[name] = None
            path = parent

    def _drop(self, path: str) -> None:
        """Forget the node at *path*, and the implicit groups that led to it alone."""
        del self.nodes[path]
        while path != "/" and path not in self.nodes and not self._children.get(path):
            self._children.pop(path, None)
            parent, _, name = path.rpartition("/")
            path = parent or "/"
            del self._children[path][name]


def _join(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"
