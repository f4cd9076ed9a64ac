"""Random edits of a small hierarchy, done with the official library and with a working tree."""

from dataclasses import dataclass

import icechunk
from hypothesis import strategies as st

from tests.compat.documents import array_document, delete, get_all, put
from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.chunk_changes import UNTOUCHED
from zfuse.repo.documents import chunk_fault, parse_document

GROUPS = [b'{"node_type":"group","attributes":{"v":%d}}' % n for n in range(2)]
ARRAYS = [array_document((length,), (1,), attributes={"v": v}) for length in (4, 2) for v in (0, 1)]

PLACES = ["", "g", "g/a", "g/h", "g/h/x", "a", "a/k", "b"]
PATHS = st.sampled_from(PLACES)


@dataclass(frozen=True)
class Edit:
    """Store *data* under *key*, or delete the key where *data* is None."""

    key: str
    data: bytes | None


def _in(path, name):
    return f"{path}/{name}" if path else name


CHUNKS = st.builds(
    lambda path, n, data: Edit(_in(path, f"c/{n}"), data),
    st.sampled_from(["a", "g/a", "b", "g/h/x"]),
    st.integers(0, 4),
    st.sampled_from([b"1", b"22", None]),
)
METADATA = st.builds(
    lambda path, data: Edit(_in(path, "zarr.json"), data),
    PATHS,
    st.sampled_from([*GROUPS, *ARRAYS, None]),
)
EDITS = st.one_of(CHUNKS, METADATA)


def base_edits():
    """Return what makes the hierarchy that everybody starts from."""
    yield Edit("zarr.json", GROUPS[0])
    yield Edit("g/zarr.json", GROUPS[0])
    yield Edit("g/h/zarr.json", GROUPS[0])
    for path in ("g/a", "a", "b"):
        yield Edit(_in(path, "zarr.json"), ARRAYS[0])
        for n in range(3):
            yield Edit(_in(path, f"c/{n}"), b"base %d" % n)
    yield Edit("a/k/zarr.json", GROUPS[0])


def edit_officially(store, edits):
    """Do *edits*, and return those that the official library took."""
    done = []
    for edit in edits:
        try:
            if edit.data is None:
                delete(store, edit.key)
            else:
                put(store, edit.key, edit.data)
        except icechunk.IcechunkError:
            continue
        done.append(edit)
    return done


def edit_tree(tree, edits, spec_version=2):
    """Do *edits* to a WorkingTree, and return those that it took."""
    done = []
    for edit in edits:
        try:
            _edit(tree, edit, spec_version)
        except (AlreadyExistsError, InvalidInputError, NotFoundError):
            continue
        done.append(edit)
    return done


def _edit(tree, edit, spec_version):
    path, slash, name = ("/" + edit.key).rpartition("/zarr.json")
    if slash and not name:
        if edit.data is None:
            tree.delete(path or "/")
        else:
            document = parse_document(edit.data, spec_version=spec_version)
            tree.set_metadata(path or "/", document)
        return
    path, _, coords = ("/" + edit.key).rpartition("/c/")
    coords = tuple(map(int, coords.split("/")))
    node = tree.node(path)
    if edit.data is None:  # what is not there need not be deleted
        if isinstance(node, ArrayNode) and chunk_fault(node.shape, coords, 1) is None:
            tree.changes.set_chunk(node.id, coords, None)
        return
    node = tree.array(path)
    if chunk_fault(node.shape, coords, len(edit.data)):
        raise InvalidInputError(edit.key)
    tree.changes.set_chunk(node.id, coords, InlineRef(edit.data))


def expected_keys(nodes, changes, stored):
    """Return what the store shows of *nodes*, where *stored* are the chunks below the changes.

    *stored* gives per node and index the bytes.
    """
    found = {}
    for node in nodes:
        path = node.path.lstrip("/")
        found[_in(path, "zarr.json")] = node.user_data
        if not isinstance(node, ArrayNode):
            continue
        (dimension,) = node.shape
        for n in range(dimension.num_chunks):
            change = changes.chunk(node.id, (n,))
            data = stored.get((node.id, n)) if change is UNTOUCHED else change and change.data
            if data is not None:
                found[_in(path, f"c/{n}")] = data
    return found


def stored_chunks(nodes, keys):
    """Return the chunks among *keys* per node and index, as expected_keys wants them."""
    found = {}
    for node in nodes:
        for n in range(8):
            data = keys.get(_in(node.path.lstrip("/"), f"c/{n}"))
            if isinstance(node, ArrayNode) and data is not None:
                found[node.id, n] = data
    return found


def official_keys(repo, snapshot_id):
    """Return the content of every key of a snapshot."""
    return get_all(repo.readonly_session(snapshot_id=snapshot_id).store)


def visible_keys(session):
    """Return the content of every key of a session, without the chunks outside of the grid."""
    return get_all(session.store)
