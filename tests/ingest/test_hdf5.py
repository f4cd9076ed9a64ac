"""What HDF5 files have that no reference can lead to is refused by name, or comes along."""

import h5py
import numpy as np
import pytest

from tests.ingest.archive import arrays_of, same
from zfuse.errors import InvalidInputError

pytestmark = [
    pytest.mark.compat,
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs"),
]
GRID = np.arange(60, dtype="f8").reshape(6, 10)


def make_compact(group, name, values) -> None:
    """Write a data set whose values lie among the metadata of the file."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    kind, space = h5py.h5t.py_create(values.dtype, logical=True), h5py.h5s.create_simple
    space = h5py.h5s.create(h5py.h5s.SCALAR) if values.shape == () else space(values.shape)
    h5py.h5d.create(group.id, name.encode(), kind, space, how)
    group[name][...] = values


async def test_compact_data_sets(archive):
    values = {
        "little": GRID[:2], "big": GRID.astype(">i2"), "scalar": np.array(5), "bool": GRID % 2 == 0,
        "bytes": np.array([b"ab", b"c"]),
    }  # fmt: skip
    with h5py.File(archive.data / "file.h5", "w") as file:
        inner = file.create_group("inner")
        for name, array in values.items():
            make_compact(inner, name, array)
        file["plain"] = GRID
    archive.settle()
    await archive.ingest(archive.data / "file.h5")
    found = arrays_of(archive.store())
    assert found.keys() == {"plain"} | {f"inner/{name}" for name in values}
    assert [name for name in values if not same(found[f"inner/{name}"], values[name])] == []


def _external(file, directory) -> None:
    (directory / "values").write_bytes(GRID.tobytes())
    where = [(str(directory / "values"), 0, GRID.nbytes)]
    file.create_dataset("x", shape=GRID.shape, dtype=GRID.dtype, external=where)


def _virtual(file, directory) -> None:
    with h5py.File(directory / "other.h5", "w") as other:
        other["x"] = GRID
    layout = h5py.VirtualLayout(GRID.shape, GRID.dtype)
    layout[...] = h5py.VirtualSource(str(directory / "other.h5"), "x", GRID.shape)
    file.create_virtual_dataset("x", layout)


def _unfiltered(file, directory) -> None:
    del directory
    array = file.create_dataset("x", data=GRID, chunks=(3, 10), shuffle=True)
    array.id.write_direct_chunk((3, 0), GRID[3:].tobytes(), filter_mask=1)


def _few_bits(file, directory) -> None:
    del directory
    kind = h5py.h5t.NATIVE_INT32.copy()
    kind.set_precision(20)
    kind.set_offset(4)
    h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((4,)))


def _elsewhere(file, directory) -> None:
    file["x"] = h5py.ExternalLink(str(directory / "other.h5"), "/x")


def _nowhere(file, directory) -> None:
    del directory
    file["x"] = h5py.SoftLink("/nothing")


def _loop(file, directory) -> None:
    del directory
    file["x"] = file


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_external, "x has its values in another file"),
        (_virtual, "x is a virtual data set"),
        (_unfiltered, "x has chunks that did not go through all"),
        (_few_bits, "x has numbers with some bits unused"),
        (_elsewhere, "x is a link to another file"),
        (_nowhere, "x is a link that leads nowhere"),
        (_loop, "x is a link to a group that it lies in"),
        (lambda file, _: file.create_dataset("x", data=h5py.Empty("f4")), "x has no values at all"),
    ],
)
async def test_what_no_reference_leads_to(archive, make, words):
    """Read from the references it would be fill values, or noise."""
    with h5py.File(archive.data / "file.h5", "w") as file:
        inner = file.create_group("inner/deep")
        inner["y"] = GRID
        make(inner, archive.data)
    archive.settle()
    with pytest.raises(InvalidInputError, match=rf"file\.h5/inner/deep/{words}.*--skip"):
        await archive.ingest(archive.data / "file.h5")
    await archive.ingest(archive.data / "file.h5", skip=["x"])
    found = arrays_of(archive.store())
    assert found.keys() == {"inner/deep/y"}
    assert same(found["inner/deep/y"], GRID)
