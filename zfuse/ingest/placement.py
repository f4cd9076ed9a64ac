"""Where the nodes of a source go in a repository, and what stands in their way."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from zfuse.errors import AlreadyExistsError, InvalidInputError
from zfuse.format.ref_columns import RefColumns
from zfuse.format.snapshot import ArrayNode, GroupNode
from zfuse.ingest.metadata import group_document
from zfuse.ingest.parsed import ChunkTable, FileTable, ParsedNode, ParsedSource
from zfuse.repo.at_once import at_once
from zfuse.repo.documents import path_fault
from zfuse.repo.working_tree import WorkingTree
from zfuse.repo.workspace import Workspace

_STORED_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A source that was parsed, and the absolute path that its root gets."""

    node: str
    parsed: ParsedSource

    def path_of(self, node: ParsedNode) -> str:
        """Return where a node of the source goes."""
        return joined(self.node, node.path)


def joined(node: str, below: str) -> str:
    """Return the path of what is called *below* inside of *node*."""
    return f"{node.rstrip('/')}/{below}" if below else node


def node_path(text: str) -> str:
    """Return the path of a node as a person writes it: ``a/b`` and ``/a/b/`` are ``/a/b``.

    Raises:
        InvalidInputError: no node can have it.
    """
    path = "/" + text.strip("/")
    fault = path_fault(path)
    if path.endswith("/zarr.json"):
        fault = "the metadata of what is above have that name"
    if fault is not None:
        raise InvalidInputError(f"{text!r} can be no node: {fault}")
    return path


def check_free(tree: WorkingTree, node: str, *, overwrite: bool) -> None:
    """Check that a source can go to *node*.

    Raises:
        AlreadyExistsError: there is something.
        InvalidInputError: it would lie inside of an array.
    """
    for above in _parents(node):
        if isinstance(tree.node(above), ArrayNode):
            raise InvalidInputError(f"{node} would lie inside of the array {above}")
    if exists(tree, node) and not overwrite:
        raise AlreadyExistsError(
            f"{node} exists; choose another node with --into, replace it with --overwrite, or"
            " extend it with --append-dim"
        )


def exists(tree: WorkingTree, node: str) -> bool:
    """Tell whether there is anything at *node*; an empty root group is nothing."""
    if node == "/" and not tree.children("/"):
        return isinstance(tree.node("/"), ArrayNode)
    return tree.is_directory(node)


async def place(workspace: Workspace, arrival: Arrival, *, beside: bool = False) -> None:
    """Put a source at its node, with the groups above; what is there goes, unless *beside* it."""
    for there in () if beside else workspace.tree.subtree(arrival.node):
        if there.path != "/" or isinstance(there, ArrayNode):
            await workspace.delete_node(there.path)
    for above in _parents(arrival.node):
        if workspace.node(above) is None:
            await workspace.set_metadata(above, group_document({}))
    if isinstance(workspace.node(arrival.node), GroupNode) and _is_array(arrival):
        await workspace.delete_node(arrival.node)
    for node in arrival.parsed.nodes:
        path = arrival.path_of(node)
        await workspace.set_metadata(path, node.document)
        if node.chunks is not None:
            await put_chunks(workspace, path, node.chunks, arrival.parsed.files)


def _is_array(arrival: Arrival) -> bool:
    return any(not node.path and node.chunks is not None for node in arrival.parsed.nodes)


async def put_chunks(
    workspace: Workspace,
    path: str,
    chunks: ChunkTable,
    files: FileTable,
    shift: Sequence[int] | None = None,
) -> None:
    """Make *chunks* those of the array at *path*, with *shift* added to their indices."""
    if shift is not None:
        coords = chunks.coords.astype(np.int64) + np.array(shift, np.int64)
        chunks = replace(chunks, coords=coords.astype(np.uint32))
    changes = workspace.tree.changes.chunks_of(workspace.tree.array(path).id)
    references = chunks.references(files)
    if len(references):
        changes.set_many(references)
    inlined = chunks.inlined()
    if inlined:
        changes.set_many(await _stored(workspace, chunks.rank, inlined))


async def _stored(
    workspace: Workspace, rank: int, inlined: list[tuple[tuple[int, ...], bytes]]
) -> RefColumns:
    """Store chunks whose bytes came along, and return where they are."""
    refs = {}

    async def store(coords: tuple[int, ...], data: bytes) -> None:
        refs[coords] = await workspace.store_chunk(data)

    await at_once(
        (lambda coords=coords, data=data: store(coords, data) for coords, data in inlined),  # type: ignore[misc]
        most=_STORED_AT_ONCE,
    )
    return RefColumns.of_refs(rank, refs.items())


def _parents(node: str) -> list[str]:
    """Return the paths of the groups above *node*, the root first; none for the root."""
    if node == "/":
        return []
    return [str(path) for path in reversed(PurePosixPath(node).parents)]
