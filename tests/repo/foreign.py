"""A repository in memory whose chunks lie in foreign files in memory, all of it counted."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.compat.documents import array_document
from tests.counting import CountingStorage
from zfuse.byterange import ByteRange
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns
from zfuse.maintenance.copy_pieces import DEFAULT_LIMITS, PieceCopier
from zfuse.maintenance.materialize import materialize
from zfuse.maintenance.stored_pieces import StoredPieces
from zfuse.repo.create import create_repository
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.repo.virtual import AllowedPrefix, VirtualChunkResolver
from zfuse.storage.memory import MemoryStorage

PREFIX = "s3://bucket/"


class Tracked(CountingStorage):
    """A counting storage that shares with others how many bytes are in memory, and at most were."""

    def __init__(self, inner, held):
        super().__init__(inner)
        self.held = held

    async def get_range(self, key, byte_range, *, unmodified=None):
        data = await super().get_range(key, byte_range, unmodified=unmodified)
        self.held["now"] += len(data)
        self.held["most"] = max(self.held["most"], self.held["now"])
        return data

    async def put(self, key, data, *, expect=None):
        version = await super().put(key, data, expect=expect)
        if key.startswith("chunks/"):
            self.held["now"] -= len(data)
        return version


@dataclass
class Foreign:
    """The repository, the store of its sources, and where runs note what they stored."""

    state: object
    held: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.store = Tracked(MemoryStorage(), self.held)
        self.source = Tracked(MemoryStorage(), self.held)

    async def open_container(self, root, store, credentials):
        assert root == PREFIX
        return self.source

    def resolver(self, *allowed):
        container = VirtualChunkContainer(PREFIX, StoreConfig("s3", {}), "bucket")
        prefixes = [AllowedPrefix(prefix) for prefix in allowed]
        return VirtualChunkResolver({PREFIX: container}, prefixes, self)

    async def session(self):
        repository = await Repository.open(self.store, virtual=Reader(self.resolver(PREFIX)))
        return await Session.open(repository, "main")

    async def run(self, *paths, limits=DEFAULT_LIMITS, allowed=(PREFIX,), session=None):
        """Materialize and commit; return the progress."""
        session = session or await self.session()
        resolver = self.resolver(*allowed)
        with StoredPieces(self.state) as stored:
            copier = PieceCopier(session.repository, resolver, stored, limits)
            if await materialize(session, paths or ("/",), copier, resolver, stored):
                await session.commit("materialize")
            stored.forget()
        return copier.progress

    async def read(self, path):
        """Return the bytes of all chunks of an array by their index."""
        session = await self.session()
        (columns,) = await session.chunk_columns(session.tree.array(path))
        found = {}
        for coords in columns.coords.tolist():
            ref = await session.chunk_ref(path, tuple(coords))
            whole = ByteRange(0, ref.size)
            found[tuple(coords)] = await session.repository.assets.read_chunk(
                ref, whole, block=1 << 20
            )
        return found


class Reader:
    """A resolver whose containers stay, whatever the config of the repository says."""

    def __init__(self, resolver):
        self.resolver = resolver

    def declare(self, containers):
        pass

    async def read(self, ref, byte_range):
        return await self.resolver.read(ref, byte_range)


@dataclass(frozen=True)
class Chunk:
    """A virtual chunk in the file *name*."""

    name: str
    offset: int
    size: int
    etag: str | None = None
    modified: int = 0


async def make(state, arrays, *, spec=2):
    """Make a repository with arrays of one dimension: lists of Chunk by path."""
    foreign = Foreign(state)
    await create_repository(foreign.store, spec_version=spec)
    session = await foreign.session()
    sizes = Counter()
    for path, chunks in arrays.items():
        for chunk in chunks:
            sizes[chunk.name] = max(sizes[chunk.name], chunk.offset + chunk.size)
        count = len(chunks)
        await session.set_metadata(path, array_document((count,), (1,)))
        columns = RefColumns.virtual(
            np.arange(count, dtype=np.uint32).reshape(count, 1),
            Ragged.of((PREFIX + chunk.name).encode() for chunk in chunks),
            np.array([chunk.offset for chunk in chunks], np.uint64),
            np.array([chunk.size for chunk in chunks], np.uint64),
        ).with_checksums(
            etags=Ragged.of(None if c.etag is None else c.etag.encode() for c in chunks),
            last_modified=np.array([chunk.modified for chunk in chunks], np.uint32),
        )
        await session.set_chunk_refs(path, columns)
    await session.commit("virtual")
    for name, size in sizes.items():
        await foreign.source.put(name, np.random.default_rng(len(name)).bytes(size))
    foreign.store.reset()
    foreign.source.reset()
    return foreign
