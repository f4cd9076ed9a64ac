"""What a session means in Zarr's terms: which nodes and chunks it changes, and what it can not.

Nothing here changes anything. The rows of a session are walked from the root down. Each
directory is either where the base has it, or shows a *region*: a piece of the base under
another path. A node of the base keeps its identity where it stays, or at the one place it
went to; where it shows more than once the others are copies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from zfuse.errors import CorruptionError, InvalidInputError
from zfuse.format.chunk_names import ChunkNames, read_numbers
from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.snapshot import ArrayNode, DimensionShape, Node
from zfuse.format.zarr_json import ArrayMetadata
from zfuse.fs.base_place import BasePlace, ChunkPlace, chunk_names, shown
from zfuse.fs.names import decode_name
from zfuse.fs.staged import EntryRow, Path, RowKind, StagedDirectory, StagedFile
from zfuse.repo.documents import (
    ArrayDocument,
    Document,
    chunk_fault,
    document_of,
    parse_document,
    path_fault,
)
from zfuse.repo.view import HierarchyView, join

METADATA_NAME = "zarr.json"


@dataclass(frozen=True, slots=True)
class SessionRows:
    """All rows of a session, as of one moment.

    ``open_files`` are being written at that moment, ``interrupted`` were when a daemon died.
    ``copies`` are directories that somebody made by copying others.
    """

    directories: Mapping[int, StagedDirectory]
    files: Mapping[int, StagedFile]
    names: Mapping[int, Sequence[tuple[str, EntryRow]]]
    open_files: frozenset[int]
    interrupted: frozenset[int]
    copies: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that can not be committed, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Instance:
    """A node as the session shows it.

    ``base`` is the node that it was, None for a new one; ``document`` its new zarr.json, None
    if that did not change. A dead one is gone.
    """

    path: str
    base: Node | None
    document: Document | None = None
    is_dead: bool = False
    chunks: list["StagedChunk"] = field(default_factory=list)
    is_reshaped: bool = False


@dataclass(frozen=True, slots=True)
class StagedChunk:
    """A chunk of an instance: a staged file, or a reference of the base under another name."""

    coords: tuple[int, ...]
    file: StagedFile | None
    ref: ChunkRef | None = None


@dataclass(slots=True)
class Region:
    """A piece of the base, and what of it is hidden; the first is all of it, in its place.

    ``path`` is where it shows. ``hidden`` are paths of nodes, with all below; instances and
    hidden chunks are by the path that the base has for their node. Of a node that shows more
    than once, the one that is no ``is_copy`` is what becomes of it.
    """

    place: BasePlace
    path: str | None
    is_copy: bool = False
    hidden: set[str] = field(default_factory=set)
    hidden_chunks: dict[str, list[ChunkPlace]] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)

    def hides(self, path: str) -> bool:
        """Tell whether the node of the base at *path* does not show."""
        if not self.hidden:
            return False
        while path not in self.hidden:
            if path == "/":
                return False
            path = path.rpartition("/")[0] or "/"
        return True

    def path_of(self, node: Node) -> str | None:
        """Return where a node of the base shows, None if it can have no path there."""
        if self.path is None or node.path == self.place.node_path:
            return self.path
        return self.path.rstrip("/") + node.path.removeprefix(self.place.node_path.rstrip("/"))

    def instance(self, node: Node, path: str) -> Instance:
        """Return the instance of a node of the base in this region."""
        found = self.instances.get(node.path)
        if found is None:
            found = self.instances[node.path] = Instance(path, node)
        return found


@dataclass(frozen=True, slots=True)
class MovedChunks:
    """Chunks of the base that show at the path ``shows_at``; ``owner`` is there, if any is."""

    place: ChunkPlace
    region: Region
    shows_at: Path
    owner: "Owner | None"


@dataclass(frozen=True, slots=True)
class Owner:
    """The array that the names below a directory are chunks of, if they are any.

    ``names`` lead from the array to the directory; ``outer`` is the owner for those that are
    none of its chunks.
    """

    instance: Instance
    shape: Sequence[DimensionShape]
    chunk_names: ChunkNames | None
    names: Path = ()
    outer: "Owner | None" = None

    def below(self, name: str) -> "Owner":
        """Return the same for a directory below."""
        outer = None if self.outer is None else self.outer.below(name)
        names = (*self.names, name)
        return Owner(self.instance, self.shape, self.chunk_names, names, outer)

    def chunk(self, names: Path) -> "tuple[Owner, tuple[int, ...]] | None":
        """Return which array has what chunk under *names* from here."""
        if self.chunk_names is not None:
            name = "/".join((*self.names, *names))
            coords = self.chunk_names.encoding.decode(name, self.chunk_names.rank)
            if coords is not None:
                return self, coords
        return None if self.outer is None else self.outer.chunk(names)


@dataclass(slots=True)
class Walked:
    """What the walk found; ``kept`` are the entries that no commit takes along."""

    regions: list[Region]
    new: list[Instance] = field(default_factory=list)
    moved_chunks: list[MovedChunks] = field(default_factory=list)
    invalid: list[Problem] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    open_files: list[str] = field(default_factory=list)
    kept: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Here:
    """A directory on the walk: what is shown there, and where that comes from.

    ``node_path`` is None where the names that lead here are no node's.
    """

    row_id: int
    path: Path
    node_path: str | None
    place: BasePlace | None
    region: Region | None
    owner: Owner | None


class Walk:
    """Goes through the rows of a session; *read* returns the bytes of a staged file.

    With *touched* all counts that is being changed, also what could not be committed yet.
    """

    def __init__(
        self,
        rows: SessionRows,
        view: HierarchyView,
        spec_version: int,
        read: Callable[[StagedFile], bytes],
        *,
        touched: bool = False,
    ) -> None:
        self._touched = touched
        self._rows = rows
        self._view = view
        self._spec_version = spec_version
        self._read = read
        self.found = Walked([Region(BasePlace(view, "/"), "/")])

    def run(self, root: StagedDirectory) -> Walked:
        """Return what the session means."""
        natural = self.found.regions[0]
        if root.origin is None:  # the tree was emptied
            natural.hidden.add("/")
            here = _Here(root.id, (), "/", None, None, None)
        else:
            here = _Here(root.id, (), "/", natural.place, natural, None)
        pending = [here]
        while pending:
            pending += self._directory(pending.pop())
        return self.found

    def _directory(self, here: _Here) -> list[_Here]:
        entries = dict(self._rows.names.get(here.row_id, ()))
        metadata = entries.get(METADATA_NAME)
        if metadata is not None and metadata.kind is not RowKind.DIRECTORY:
            del entries[METADATA_NAME]
        owner = here.owner
        if (own := self._node(here, metadata)) is not None:
            owner = replace(own, outer=here.owner)
        below: list[_Here] = []
        for name, entry in entries.items():
            place = None if here.place is None else here.place.child(name)
            match entry.kind:
                case RowKind.WHITEOUT:
                    self._hide(here, place)
                case RowKind.FILE:
                    if place is not None and not _stays_a_chunk(place, owner):
                        self._hide(here, place)
                    self._file(here, name, entry, owner)
                case RowKind.DIRECTORY:
                    below.append(self._child(here, name, entry, place, owner))
        return below

    def _child(
        self, here: _Here, name: str, entry: EntryRow, place: BasePlace | None, owner: Owner | None
    ) -> _Here:
        row = self._rows.directories[entry.child]
        path = (*here.path, name)
        region = here.region
        natural = here.place is not None and row.origin == self._origin_of(here, name)
        if not natural:
            self._hide(here, place)
            place, region = None, None
            if row.origin is not None:
                place = BasePlace(self._view, "/").walk(row.origin)
                region = self._enter(here, place, name, owner)
                region.is_copy = entry.child in self._rows.copies
        node_path = self._node_path(here, name, place if natural else None)
        below = None if owner is None else owner.below(name)
        return _Here(row.id, path, node_path, place, region, below)

    def _origin_of(self, here: _Here, name: str) -> Path | None:
        origin = self._rows.directories[here.row_id].origin
        return None if origin is None else (*origin, name)

    def _enter(self, here: _Here, place: BasePlace, name: str, owner: Owner | None) -> Region:
        """Return the region that begins at the child *name*."""
        path = self._node_path(here, name, None)
        region = Region(place, path)
        self.found.regions.append(region)
        chunks = place.chunks()
        if chunks is not None:
            below = None if owner is None else owner.below(name)
            moved = MovedChunks(chunks, region, (*here.path, name), below)
            self.found.moved_chunks.append(moved)
        if path is None and place.nodes():
            problem = "Icechunk can not hold the name of its node"
            self.found.invalid.append(Problem(shown((*here.path, name)), problem))
        return region

    def _node_path(self, here: _Here, name: str, place: BasePlace | None) -> str | None:
        """Return the path of the child *name*, which the base may have at *place*."""
        if here.node_path is None:
            return None
        if place is not None and not place.names:
            segment: str | None = place.node_path.rpartition("/")[2]
        else:
            segment = decode_name(name)
        path = None if not segment or "/" in segment else join(here.node_path, segment)
        return None if path is None or path_fault(path) is not None else path

    def _hide(self, here: _Here, place: BasePlace | None) -> None:
        """Note that what the base has at *place* does not show here."""
        if place is None or here.region is None:
            return
        if not place.names:
            here.region.hidden.add(place.node_path)
        if (chunks := place.chunks()) is not None:
            here.region.hidden_chunks.setdefault(chunks.array.path, []).append(chunks)

    # --- nodes ---------------------------------------------------------------------------------

    def _node(self, here: _Here, entry: EntryRow | None) -> Owner | None:
        """Work out which node is here; return it if it is an array."""
        base = None if here.place is None else here.place.node
        instance = None
        if base is not None and here.region is not None and here.node_path is not None:
            instance = here.region.instance(base, here.node_path)
        if entry is None:
            return self._owner(instance)
        if entry.kind is not RowKind.FILE:
            if instance is not None:
                instance.is_dead = True
            return None
        path = shown((*here.path, METADATA_NAME))
        if self._is_not_ready(here, METADATA_NAME, entry, path, counts=True):
            return self._owner(instance)
        document = self._document(here, path, entry)
        if document is None:
            if self._touched and instance is not None and instance.base is not None:
                instance.document = document_of(instance.base)
            return self._owner(instance)
        return self._documented(here, instance, document, path, anew=entry.anew)

    def _documented(
        self, here: _Here, instance: Instance | None, document: Document, path: str, *, anew: bool
    ) -> Owner | None:
        base = None if instance is None else instance.base
        assert here.node_path is not None
        if instance is None or base is None:
            instance = Instance(here.node_path, None, document)
            self.found.new.append(instance)
        elif isinstance(base, ArrayNode) is not isinstance(document, ArrayDocument):
            if anew:
                instance.is_dead = True
                instance = Instance(here.node_path, None, document)
                self.found.new.append(instance)
                return self._owner(instance)
            kind = "an array" if isinstance(base, ArrayNode) else "a group"
            self.found.invalid.append(
                Problem(path, f"there is {kind} here; remove its directory before it becomes other")
            )
        elif base.user_data != document.user_data:
            instance.document = document
            instance.is_reshaped = self._is_reshaped(base, document)
        return self._owner(instance)

    def _is_reshaped(self, base: Node, document: Document) -> bool:
        """Tell whether chunks that the array had would get other names."""
        if not isinstance(base, ArrayNode) or not isinstance(document, ArrayDocument):
            return False
        before = chunk_names(self._view, base)
        after = _names_of(document)
        return before is None or after is None or before != after

    def _document(self, here: _Here, path: str, entry: EntryRow) -> Document | None:
        if here.node_path is None:
            self.found.invalid.append(Problem(path, "Icechunk can not hold the name of its node"))
            return None
        try:
            data = self._read(self._rows.files[entry.child])
            return parse_document(data, spec_version=self._spec_version)
        except InvalidInputError as exc:
            reason = str(exc).partition("can not be committed: ")
            self.found.invalid.append(Problem(path, reason[2] or reason[0]))
            return None

    def _owner(self, instance: Instance | None) -> Owner | None:
        if instance is None or instance.is_dead:
            return None
        if isinstance(instance.document, ArrayDocument):
            return Owner(instance, instance.document.shape, _names_of(instance.document))
        if instance.document is None and isinstance(instance.base, ArrayNode):
            names = chunk_names(self._view, instance.base)
            return Owner(instance, instance.base.shape, names)
        return None

    # --- files ---------------------------------------------------------------------------------

    def _file(self, here: _Here, name: str, entry: EntryRow, owner: Owner | None) -> None:
        path = shown((*here.path, name))
        chunk = None if owner is None else owner.chunk((name,))
        if self._is_not_ready(here, name, entry, path, counts=chunk is not None):
            return
        if chunk is None:
            self._unless_odd(here, name, path, owner)
            return
        array, coords = chunk
        file = self._rows.files[entry.child]
        size = max(file.size, 1) if self._touched else file.size
        fault = chunk_fault(array.shape, coords, size)
        if fault is not None:
            self.found.invalid.append(Problem(path, fault))
            return
        array.instance.chunks.append(StagedChunk(coords, file))

    def _unless_odd(self, here: _Here, name: str, path: str, owner: Owner | None) -> None:
        """Note a file that is no chunk, unless its name says that it was meant to be one."""
        if owner is not None and owner.chunk_names is not None:
            numbers = read_numbers(owner.chunk_names.encoding, (*owner.names, name))
            if numbers is not None:
                fault = chunk_fault(owner.shape, numbers, 1)
                self.found.invalid.append(Problem(path, fault or "it is no chunk of its array"))
                return
        self.found.untracked.append(path)
        self.found.kept.append((here.row_id, name))

    def _is_not_ready(
        self, here: _Here, name: str, entry: EntryRow, path: str, *, counts: bool
    ) -> bool:
        if self._touched:
            return False
        if entry.child in self._rows.open_files:
            self.found.open_files.append(path)
            self.found.kept.append((here.row_id, name))
            return True
        if counts and entry.child in self._rows.interrupted:
            reason = "whoever wrote it was interrupted; write it anew, or: zfuse discard"
            self.found.invalid.append(Problem(path, reason))
            return True
        return False


def _stays_a_chunk(place: BasePlace, owner: Owner | None) -> bool:
    """Tell whether what is written at *place* is the chunk that the base has there."""
    chunks = place.chunks()
    if chunks is None or not chunks.is_chunk:
        return False
    return owner is None or not owner.instance.is_reshaped


def _names_of(document: ArrayDocument) -> ChunkNames | None:
    try:
        encoding = ArrayMetadata.parse(document.user_data).chunk_key_encoding
    except CorruptionError:
        return None
    return None if encoding is None else ChunkNames(encoding, len(document.shape))
