"""What the official library has of a branch, and what it must have, for the model of one."""

import itertools
import json
from pathlib import Path as DiskPath

import icechunk

from tests.compat.documents import DOT, GROUP, V2_DOT, array_document, put_all
from tests.compat.oracle import METADATA, Ref, expected_tree, official_keys
from tests.compat.place import changing, create, local_place
from tests.fs.overlay_model import Model, ModelFile

SHARDS = [
    {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [1, 1],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
]
DOCUMENTS = [
    GROUP,
    array_document((3, 2), (1, 1)),
    array_document((3, 2), (1, 1), chunk_key_encoding=DOT),
    array_document((3, 2), (1, 1), chunk_key_encoding=V2_DOT),
    array_document((6, 4), (3, 2), codecs=SHARDS),
    array_document((3,), (1,)),
    array_document((), ()),
]


def build(directory):
    """Make a repository that has nodes and chunks of every kind of name."""
    place = local_place(DiskPath(directory))
    repo = create(place, 2)
    with changing(repo, "base") as store:
        kinds = dict(
            zip(("a", "flat", "v2", "shards", "line", "point"), DOCUMENTS[1:], strict=True)
        )
        documents = {f"g/{name}/{METADATA}": document for name, document in kinds.items()}
        put_all(store, {METADATA: GROUP, f"g/{METADATA}": GROUP, **documents})
        put_all(store, {f"implicit/b/{METADATA}": DOCUMENTS[1], "implicit/b/c/2/1": b"b" * 600})
        for name in ("a", "flat", "v2", "shards"):
            sizes = zip(itertools.product(range(2), range(2)), (3, 700), (40, 513), strict=False)
            for (row, column), *_ in sizes:
                data = f"{name} {row} {column} ".encode() * (60 if column else 1)
                put_all(store, {f"g/{name}/c/{row}/{column}": data})
        put_all(store, {"g/line/c/2": b"line" * 200, "g/point/c": b"point"})
    return place.url


def committed(url):
    """Return what the official library has on the branch, as a tree that a mount must show."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(url)))
    tree = expected_tree(official_keys(repo, Ref("branch", "main")))
    assert not tree.hidden
    files = {tuple(key.split("/")): ModelFile(bytearray(d), False) for key, d in tree.files.items()}
    directories = {tuple(key.split("/")) if key else () for key in tree.directories}
    return Model(files, {path: path for path in directories})


def zarr_files(model):
    """Return the files of which there can be no doubt that a commit has to take them."""
    documents = {
        path[:-1]: json.loads(bytes(file.data))
        for path, file in model.files.items()
        if path[-1] == METADATA and bytes(file.data) in DOCUMENTS
    }
    arrays = {path: d for path, d in documents.items() if d["node_type"] == "array"}
    found = {(*path, METADATA) for path in documents if _is_plain(path)}
    for path, document in arrays.items():
        if _is_plain(path):
            found |= {(*path, *name.split("/")) for name in _chunk_names(document)}
    return {path for path in found if path in model.files}


def nested_files(model):
    """Return the files that are below two arrays, so that nobody knows whose chunks they are."""
    arrays = {
        path[:-1]
        for path, file in model.files.items()
        if path[-1] == METADATA and bytes(file.data) in DOCUMENTS[1:]
    }
    return {path for path in model.files if sum(path[:n] in arrays for n in range(len(path))) > 1}


def _is_plain(path):
    return not any("\udcff" in name or name == METADATA for name in path)


def _chunk_names(document):
    encoding = document["chunk_key_encoding"]
    default = "/" if encoding["name"] == "default" else "."
    separator = encoding.get("configuration", {}).get("separator", default)
    sizes = document["chunk_grid"]["configuration"]["chunk_shape"]
    grid = [range(-(-n // size)) for n, size in zip(document["shape"], sizes, strict=True)]
    for coords in itertools.product(*grid):
        parts = ["c"] * (encoding["name"] == "default") + [str(n) for n in coords]
        yield separator.join(parts) or "0"
