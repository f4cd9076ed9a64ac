"""Sessions driven by the edits of ``editing``, and what zfuse reads of a version."""

import icechunk

from zfuse.byterange import ByteRange
from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.chunks import ChunkIndex
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.storage.local import LocalStorage


class NoVirtualChunks:
    """There are none here."""

    def declare(self, containers):
        assert not containers

    async def read(self, ref, byte_range):
        raise AssertionError(f"a virtual chunk was read: {ref}, {byte_range}")


async def open_repository(directory):
    """Open the repository in a local directory."""
    return await Repository.open(LocalStorage(directory), virtual=NoVirtualChunks())


async def open_session(directory, branch="main"):
    """Start a session on a branch of the repository in a local directory."""
    return await Session.open(await open_repository(directory), branch)


def official(directory):
    """Open the repository in a local directory with the official library."""
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(directory)))


async def edit_session(session, edits):
    """Do *edits*, and return those that the session took."""
    done = []
    for edit in edits:
        try:
            await edit_once(session, edit)
        except (AlreadyExistsError, InvalidInputError, NotFoundError):
            continue
        done.append(edit)
    return done


async def edit_once(session, edit):
    """Do what *edit* says, with the meaning that the official store gives it."""
    key = "/" + edit.key
    if key.endswith("/zarr.json"):
        path = key.removesuffix("/zarr.json") or "/"
        if edit.data is None:
            await session.delete(path)
        else:
            await session.set_metadata(path, edit.data)
        return
    path, _, numbers = key.rpartition("/c")
    coords = tuple(map(int, numbers.split("/")[1:]))
    if edit.data is None:
        node = session.node(path or "/")
        if isinstance(node, ArrayNode) and _in_grid(node, coords):
            await session.delete_chunk(path or "/", coords)
    else:
        await session.set_chunk(path or "/", coords, edit.data)


def _in_grid(node, coords):
    return all(n < d.num_chunks for n, d in zip(coords, node.shape, strict=True))


async def read_ref(assets, ref):
    """Return the bytes that a reference stands for."""
    return await assets.read_chunk(ref, ByteRange(0, ref.size), block=1 << 20)


async def zfuse_keys(repository, snapshot_id):
    """Return the content of every key of a snapshot, as zfuse reads it from storage."""
    snapshot = await repository.assets.fetch_snapshot(snapshot_id)
    index, found = ChunkIndex(repository.assets), {}
    for node in snapshot.nodes:
        start = "" if node.path == "/" else node.path[1:] + "/"
        found[start + "zarr.json"] = node.user_data
        if not isinstance(node, ArrayNode):
            continue
        for run in await index.rows(node, (), len(node.shape)):
            for row in range(run.start, run.stop):
                coords = map(str, run.references.coords(row, row + 1)[0].tolist())
                data = await read_ref(repository.assets, run.references.ref(row))
                found[start + "/".join(["c", *coords])] = data
    return found


async def session_keys(session):
    """Return the content of every key that a session shows (arrays of at most one dimension)."""
    found = {}
    for node in session.tree.nodes.values():
        start = "" if node.path == "/" else node.path[1:] + "/"
        found[start + "zarr.json"] = node.user_data
        if isinstance(node, ArrayNode):
            count = node.shape[0].num_chunks if node.shape else 1
            for n in range(count):
                coords = (n,) if node.shape else ()
                ref = await session.chunk_ref(node.path, coords)
                if ref is not None:
                    key = start + "/".join(["c", *map(str, coords)])
                    found[key] = await read_ref(session.repository.assets, ref)
    return found
