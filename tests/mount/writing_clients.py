"""zarr-python writes to a directory, in all its ways: each as a generator of stages.

A writer takes the directory that becomes the root of a hierarchy (it exists and is empty, as
the root of a branch is), writes a stage, and yields; between two stages the caller commits, or
does not. What is there at a yield is a valid hierarchy and nothing else. A writer looks at what
it wrote the way its library does, so a mount that only takes bytes does not do.

Two runs of a writer write the same bytes: one into a plain directory tells what must be in a
repository after the other.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import obstore.store
import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from tests.compat.hierarchy import values, write_arrays

Writer = Callable[[Path], Iterator[None]]


def same(found: Any, expected: np.ndarray) -> None:
    """Fail unless an array reads as *expected*."""
    np.testing.assert_array_equal(np.asarray(found[...]), expected)


def under(config: dict[str, Any]) -> Callable[[Writer], Writer]:
    """Let each stage of a writer run with zarr's *config*, and the caller without."""

    def decorate(writer: Writer) -> Writer:
        @functools.wraps(writer)
        def stages(root: Path) -> Iterator[None]:
            inner, end = writer(root), object()
            while True:
                with zarr.config.set(config):
                    if next(inner, end) is end:
                        return
                yield

        return stages

    return decorate


def zarr_creates(root: Path) -> Iterator[None]:
    """Every data type, codec, shape and shard, through zarr-python's LocalStore."""
    write_arrays(LocalStore(root), rectilinear=False)
    yield


@under({"array.rectilinear_chunks": True})
def zarr_rectilinear(root: Path) -> Iterator[None]:
    """Grids of unequal chunks, which spec 1 has no place for: written, resized, appended to."""
    group = zarr.create_group(root)
    sizes = [[2, 2, 5, 1], [3, 4]]
    array = group.create_array("rectilinear", shape=(10, 7), chunks=sizes, dtype="i4")
    array[...] = values((10, 7))
    array[2:4, 3:7] = 0
    yield
    array.append(values((4, 7)) * 9)
    same(array[10:], values((4, 7)) * 9)
    yield
    array.resize((5, 7))
    array[4, 0] = 77
    same(zarr.open_array(root, path="rectilinear", mode="r")[4, 0], np.array(77))
    yield


def zarr_resizes(root: Path) -> Iterator[None]:
    """Shrink, grow and append, each between commits."""
    group = zarr.open_group(root, mode="a")
    array = group.create_array("a", shape=(10, 7), chunks=(3, 2), dtype="i4", fill_value=-1)
    array[...] = values((10, 7))
    line = group.create_array("line", shape=(0,), chunks=(4,), dtype="f8")
    yield
    array.resize((4, 7))
    line.append(values((6,), "f8"))
    yield
    array.resize((12, 9))  # what was cut off must not come back
    same(array[6:], np.full((6, 9), -1))
    array[11, 8] = 5
    line.append(values((6,), "f8"))
    same(line, np.concatenate([values((6,), "f8")] * 2))
    yield
    array.append(values((12, 3)), axis=1)
    array.resize((2, 2))
    yield
    array.resize((12, 9))
    line.resize((0,))
    yield


def zarr_deletes(root: Path) -> Iterator[None]:
    """Delete groups and arrays, and make others of another kind in their places."""
    group = zarr.create_group(root)
    for name in ("a", "b", "deep/er/c"):
        array = group.create_array(name, shape=(6, 6), chunks=(2, 3), dtype="u2")
        array[...] = values((6, 6), "u2")
    yield
    del group["b"]
    del group["deep"]
    assert sorted(group) == ["a"]
    yield
    group.create_array("b", shape=(4,), chunks=(2,), dtype="f4")[...] = values((4,), "f4")
    del group["a"]
    inner = group.create_group("a")  # an array before
    inner.create_array("deep", shape=(), dtype="i1")[...] = 3
    group.create_group("deep", attributes={"again": True})
    yield
    del group["a"]
    group.create_array("a", shape=(3,), chunks=(3,), dtype="i8")[...] = values((3,), "i8")
    yield


def zarr_overwrites(root: Path) -> Iterator[None]:
    """Overwrite nodes with others, chunks with the fill value, and groups with arrays."""
    group = zarr.create_group(root)
    first = group.create_array("a", shape=(6, 6), chunks=(2, 2), dtype="i4")
    first[...] = values((6, 6))
    below = group.create_group("g")
    below.create_array("x", shape=(3,), chunks=(1,), dtype="i4")[...] = values((3,))
    yield
    first[0:4, 0:4] = 0  # these four chunks are deleted
    assert not (root / "a/c/1/1").exists()
    group.create_group("g", overwrite=True)
    yield
    second = group.create_array("a", shape=(5,), chunks=(3,), dtype="f8", overwrite=True)
    second[...] = values((5,), "f8")
    group.create_array("g", shape=(2,), chunks=(2,), dtype="i1", overwrite=True)[...] = 1
    same(zarr.open_array(root, path="a", mode="r"), values((5,), "f8"))
    yield


def zarr_mode_w(root: Path) -> Iterator[None]:
    """Open the root of the branch with mode "w", which removes that directory and makes it."""
    zarr.open_group(root, mode="w").create_array("old", data=values((4, 4)), chunks=(2, 2))
    yield
    group = zarr.open_group(root, mode="w", attributes={"anew": 1})
    assert list(group) == []
    group.create_array("new", data=values((3,)), chunks=(2,))
    yield
    array = zarr.open_array(root, mode="w", shape=(4,), chunks=(2,), dtype="u1")  # no group at all
    array[...] = 7
    yield
    zarr.save_group(root, one=values((2, 2)), two=values((3,)))
    yield


def zarr_shards(root: Path) -> Iterator[None]:
    """Shards of which parts are rewritten, dropped and cut off."""
    group = zarr.create_group(root)
    options: dict[str, Any] = {"shape": (16, 16), "chunks": (2, 4), "shards": (8, 8)}
    array = group.create_array("a", dtype="i4", **options)
    array[0:3, 0:5] = values((3, 5))
    yield
    array[2, 2:12] = -1  # in two shards, of which one is there
    array[8:, 8:] = values((8, 8))
    same(array[8:, 8:], values((8, 8)))
    yield
    array[8:, 8:] = 0
    assert not (root / "a/c/1/1").exists()
    array.resize((4, 20))
    array[3, 19] = 19
    yield


def zarr_strings(root: Path) -> Iterator[None]:
    """Strings of any length, of a fixed one, and bytes."""
    group = zarr.create_group(root)
    words = np.array(["", "long " * 200, "ünï", "a/b"], dtype=object)
    text = group.create_array("text", shape=(4,), chunks=(3,), dtype=str)
    text[...] = words
    short = group.create_array("short", shape=(3,), chunks=(2,), dtype="U3")
    short[...] = np.array(["a", "äöü", ""])
    raw = group.create_array("raw", shape=(3,), chunks=(2,), dtype="S2")
    raw[...] = np.array([b"ab", b"", b"\xff\x01"])
    yield
    text.append(np.array(["more", "\N{SNOWMAN}"], dtype=object))
    text[1] = "short"
    short[1] = "xyz"
    assert list(zarr.open_array(root, path="text", mode="r")[4:]) == ["more", "\N{SNOWMAN}"]
    yield


def zarr_attributes(root: Path) -> Iterator[None]:
    """Attributes of groups and arrays: set, updated, replaced, deleted."""
    group = zarr.create_group(root, attributes={"π": [1, None], "n": 1})
    array = group.create_array("a", data=values((3, 3)), chunks=(2, 2), attributes={"units": "K"})
    yield
    group.update_attributes({"n": 2, "more": {"x": [True]}})
    array.attrs["units"] = "°C"
    yield
    array.attrs.put({"only": 1})
    del group.attrs["π"]
    assert dict(zarr.open_group(root, mode="r").attrs) == {"n": 2, "more": {"x": [True]}}
    yield


def zarr_consolidates(root: Path) -> Iterator[None]:
    """Consolidated metadata in the root's zarr.json, made before and after an array comes."""
    group = zarr.create_group(root)
    group.create_array("a", data=values((3,)), chunks=(2,))
    zarr.consolidate_metadata(root)
    yield
    zarr.open_group(root, use_consolidated=False).create_array("b", data=values((2,)))
    zarr.consolidate_metadata(root)
    assert sorted(zarr.open_consolidated(root)) == ["a", "b"]
    yield


def _through(store: Store) -> Iterator[None]:
    """Write, change and delete through *store*."""
    group = zarr.create_group(store, attributes={"kind": type(store).__name__})
    array = group.create_array("a/b", shape=(9, 9), chunks=(4, 5), dtype="i4")
    array[...] = values((9, 9))
    group.create_array("gone", data=values((4,)), chunks=(2,))
    yield
    array[0:5] = -values((5, 9))
    array.resize((7, 12))
    array.attrs["changed"] = True
    del group["gone"]
    yield
    group.create_array("a", shape=(4,), chunks=(2,), dtype="i2", overwrite=True)[...] = 1
    same(zarr.open_array(store, path="a", mode="r"), np.ones(4, "i2"))
    yield


def zarr_over_fsspec(root: Path) -> Iterator[None]:
    """zarr-python on fsspec's local files, which are written in place."""
    yield from _through(FsspecStore.from_url(f"file://{root}", {"auto_mkdir": True}))


def zarr_over_obstore(root: Path) -> Iterator[None]:
    """zarr-python on obstore's local files, which are linked and renamed into place."""
    yield from _through(ObjectStore(obstore.store.LocalStore(root)))


@under({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
def zarr_over_zarrs(root: Path) -> Iterator[None]:
    """zarr-python with the codecs of zarrs, which writes chunk files itself, at offsets."""
    yield from _through(LocalStore(root))
    options: dict[str, Any] = {"shape": (16, 16), "chunks": (2, 4), "shards": (8, 8)}
    array = zarr.create_array(root, name="sharded", dtype="i4", **options)
    array[...] = values((16, 16))
    yield
    array[3:11, 5] = -1
    same(array[3:11, 5], np.full(8, -1))
    yield


ZARR: dict[str, Writer] = {
    function.__name__: function
    for function in (
        *(zarr_creates, zarr_rectilinear, zarr_resizes, zarr_deletes, zarr_overwrites),
        *(zarr_mode_w, zarr_shards, zarr_strings, zarr_attributes, zarr_consolidates),
        *(zarr_over_fsspec, zarr_over_obstore, zarr_over_zarrs),
    )
}

SPEC_2_ONLY = {"zarr_rectilinear"}
"""What a repository of spec 1 has no place for."""
