"""What a session can do with nodes and chunks besides its store."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import partial
from operator import index as whole

from zfuse.api.boundary import iterate_async, refusing, run, twins
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import (
    AlreadyExistsError,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    SessionStateError,
)
from zfuse.api.values import ChunkType, SessionMode
from zfuse.errors import AlreadyExistsError as TakenError
from zfuse.errors import InvalidInputError as BadInputError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef
from zfuse.format.ref_columns import RefColumns, RefKind
from zfuse.format.snapshot import ArrayNode, GroupNode, Node
from zfuse.repo.reindex import Reindexing, reindex_array, shift_array
from zfuse.repo.virtual import DeclaredContainers
from zfuse.repo.workspace import Workspace
from zfuse.zarr_store.virtual_refs import with_urls


class Nodes:
    """The part of a session that is about nodes and chunks."""

    _mode: SessionMode

    async def _here(self) -> Workspace:
        raise NotImplementedError

    async def _get_node_id(self, path: str) -> str:
        """Return the id of a node, which stays the same when the node moves."""
        return str(_node(await self._here(), path).id)

    async def _move(self, from_path: str, to_path: str) -> None:
        """Move a node, with all below it, in a session made by ``rearrange_session``.

        Raises:
            AlreadyExistsError: there is something at *to_path*.
            NodeNotFoundError: there is nothing at *from_path*.
            SessionStateError: this is another session, or *to_path* is in no group or below
                *from_path*.
        """
        self._check_changes()
        workspace = await self._here()
        if self._mode is not SessionMode.rearrange:
            raise SessionStateError(
                "nodes are moved in a session of their own; make one with rearrange_session",
                ErrorKind.NON_REARRANGE_SESSION,
            )
        for path in (from_path, to_path):
            check_path(path)
        if to_path == from_path or to_path.startswith(f"{from_path.rstrip('/')}/"):
            raise SessionStateError(
                f"{from_path} can not be moved to {to_path}, into itself",
                ErrorKind.MOVE_INTO_SELF_OR_DESCENDANT,
            )
        _node(workspace, from_path)
        parent = to_path.rpartition("/")[0] or "/"
        match workspace.node(parent):
            case None:
                raise SessionStateError(
                    f"there is no group {parent} to move to: make it first",
                    ErrorKind.MOVE_DESTINATION_PARENT_MISSING,
                )
            case ArrayNode():
                raise SessionStateError(
                    f"{parent} is an array, nothing can be moved there",
                    ErrorKind.MOVE_DESTINATION_PARENT_NOT_GROUP,
                )
        with refusing(TakenError, AlreadyExistsError, ErrorKind.MOVE_WONT_OVERWRITE):
            await workspace.move(from_path, to_path)

    async def _shift_array(self, array_path: str, chunk_offset: Iterable[int]) -> None:
        """Move all chunks of an array by *chunk_offset* chunks along each dimension.

        Chunks that would leave the array are gone; where none arrives the fill value is read.
        """
        workspace = await self._for_chunks()
        array = _array(workspace, array_path)
        offset = [whole(number) for number in chunk_offset]
        with refusing(BadInputError, InvalidInputError, ErrorKind.INVALID_CHUNK_INDEX):
            await shift_array(workspace, array.path, offset)

    def shift_array(self, array_path: str, chunk_offset: Iterable[int]) -> None:
        """Move all chunks of an array by *chunk_offset* chunks along each dimension.

        Chunks that would leave the array are gone; where none arrives the fill value is read.
        """
        run(partial(self._shift_array, array_path, chunk_offset))

    async def _reindex_array(
        self, array_path: str, forward: Reindexing, backward: Reindexing | None
    ) -> None:
        workspace = await self._for_chunks()
        array = _array(workspace, array_path)
        with refusing(BadInputError, InvalidInputError, ErrorKind.INVALID_CHUNK_INDEX):
            await reindex_array(workspace, array.path, forward, backward)

    def reindex_array(
        self, array_path: str, forward: Reindexing, backward: Reindexing | None = None
    ) -> None:
        """Copy each chunk of an array, by reference, to the index that *forward* gives for its own.

        None leaves it alone. *backward* gives for the index of each chunk the one that the chunk
        arriving there comes from: where that is None, or there is no chunk, there is none any
        more. Both are called in another thread.
        """
        run(partial(self._reindex_array, array_path, forward, backward))

    async def _chunk_type(self, array_path: str, chunk_coordinates: Sequence[int]) -> ChunkType:
        """Return where the bytes of a chunk are."""
        workspace = await self._here()
        array = _array(workspace, array_path)
        coords = tuple(int(n) for n in chunk_coordinates)
        return _type_of(await workspace.chunk_ref(array.path, coords))

    async def _all_virtual_chunk_locations(self) -> list[str]:
        """Return the URLs of all virtual chunks, as often as chunks are there.

        Raises:
            InvalidInputError: a location is in a container by a name that none has.
        """
        workspace = await self._here()
        config = workspace.repository.state.config
        containers = DeclaredContainers(config.virtual_chunk_containers)
        found: list[str] = []
        for node in list(workspace.tree.nodes.values()):
            if isinstance(node, ArrayNode):
                for columns in await workspace.chunk_columns(node):
                    found += _locations(with_urls(columns, containers))
        return found

    async def _coordinates(
        self, array_path: str, batch_size: int
    ) -> AsyncGenerator[list[tuple[int, ...]]]:
        workspace = await self._here()
        for columns in await workspace.chunk_columns(_array(workspace, array_path)):
            for start in range(0, len(columns), batch_size):
                part = columns.coords[start : start + batch_size].tolist()
                yield [tuple(index) for index in part]

    async def chunk_coordinates(
        self, array_path: str, batch_size: int = 1000
    ) -> AsyncGenerator[tuple[int, ...]]:
        """Yield the indices of all chunks that an array has, in asyncio."""
        async for batch in iterate_async(lambda: self._coordinates(array_path, batch_size)):
            for index in batch:
                yield index

    get_node_id, get_node_id_async = twins(_get_node_id)
    move, move_async = twins(_move)
    chunk_type, chunk_type_async = twins(_chunk_type)
    all_virtual_chunk_locations, all_virtual_chunk_locations_async = twins(
        _all_virtual_chunk_locations
    )

    async def _for_chunks(self) -> Workspace:
        """Return the workspace, if chunks may be changed."""
        self._check_changes()
        if self._mode is SessionMode.rearrange:
            raise SessionStateError(
                "this session only moves nodes; change chunks in one of writable_session",
                ErrorKind.REARRANGE_SESSION_ONLY,
            )
        return await self._here()

    def _check_changes(self) -> None:
        """Refuse to change a session that reads only.

        Raises:
            ReadOnlyError: it does.
        """
        if self._mode is SessionMode.readonly:
            raise ReadOnlyError(
                "this session reads only; open a writable one", ErrorKind.READ_ONLY_SESSION
            )


def check_path(path: str) -> None:
    """Refuse what is no path of a node.

    Raises:
        InvalidInputError: it does not begin with a slash.
    """
    if not path.startswith("/"):
        raise InvalidInputError(f"{path!r} is no path: it begins with a /", ErrorKind.INVALID_PATH)


def _node(workspace: Workspace, path: str) -> Node:
    check_path(path)
    node = workspace.node(path)
    if node is None:
        raise NodeNotFoundError(f"there is no node {path}", ErrorKind.NODE_NOT_FOUND)
    return node


def _array(workspace: Workspace, path: str) -> ArrayNode:
    node = _node(workspace, path)
    if isinstance(node, GroupNode):
        raise InvalidInputError(f"{path} is a group, not an array", ErrorKind.NOT_AN_ARRAY)
    return node


def _type_of(ref: ChunkRef | None) -> ChunkType:
    match ref:
        case None:
            return ChunkType.uninitialized
        case InlineRef():
            return ChunkType.inline
        case NativeRef():
            return ChunkType.native
        case _:
            return ChunkType.virtual


def _locations(columns: RefColumns) -> list[str]:
    rows = (columns.kinds == RefKind.VIRTUAL).nonzero()[0]
    found = [columns.texts[int(row)] for row in rows]
    return [location.decode() for location in found if location is not None]
