"""A second ingest that goes on where the first ended."""

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.ingest.archive import arrays_of
from zfuse.errors import InvalidInputError

pytestmark = pytest.mark.compat


def month(number: int, steps: int = 4) -> xr.Dataset:
    """Return the data of some days, with a static field and a group of its own."""
    values = np.arange(steps * 6.0).reshape(steps, 6) + 100 * number
    days = np.arange(steps) + 4 * number
    return xr.Dataset(
        {"t": (("time", "x"), values), "mask": ("x", np.arange(6)), "time": ("time", days)},
        attrs={"title": f"month {number}"},
    )


def write(place, number, steps=4, chunk=2, **changes):
    chunks = {"t": {"chunks": (chunk, 3)}, "time": {"chunks": (chunk,)}}
    data = month(number, steps).assign(changes)
    data.to_zarr(place, zarr_format=3, encoding=chunks, consolidated=False, mode="w")


def expected(*numbers) -> xr.Dataset:
    return xr.concat(
        [month(n) for n in numbers], "time", data_vars="minimal", coords="minimal",
        compat="override", join="exact",
    )  # fmt: skip


async def test_one_after_the_other(either_archive):
    archive = either_archive
    for number in range(3):
        write(archive.data / f"m{number}", number)
    archive.settle()
    for number in range(3):
        await archive.ingest((archive.data / f"m{number}", "/all"), append_dim="time")
    with xr.open_dataset(archive.store(), group="all", engine="zarr", consolidated=False) as found:
        xr.testing.assert_equal(found.load(), expected(0, 1, 2))
        assert found.attrs["title"] == "month 0"


async def test_many_in_one_commit(archive):
    for number in range(3):
        write(archive.data / f"m{number}", number)
    archive.settle()
    before = len(archive.history())
    sources = [(archive.data / f"m{number}", "/") for number in (2, 0, 1)]
    await archive.ingest(*sources, append_dim="time")
    assert len(archive.history()) == before + 1
    with xr.open_dataset(archive.store(), engine="zarr", consolidated=False) as found:
        xr.testing.assert_equal(found.load(), expected(2, 0, 1))


async def test_a_short_last_one_ends_it(archive):
    """The last may end with a part of a chunk; nothing goes on behind it."""
    write(archive.data / "m0", 0)
    write(archive.data / "m1", 1, steps=3)
    write(archive.data / "m2", 2)
    archive.settle()
    for number in (0, 1):
        await archive.ingest((archive.data / f"m{number}", "/"), append_dim="time")
    assert arrays_of(archive.store())["t"].shape == (7, 6)
    before = archive.history()
    with pytest.raises(InvalidInputError, match=r"is 7 long along 'time'.*no multiple.* 2"):
        await archive.ingest((archive.data / "m2", "/"), append_dim="time")
    assert archive.history() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chunk": 4}, "chunk_grid"),
        ({"t": (("time", "x"), np.zeros((4, 6), "f4"))}, "data_type"),
        ({"t": (("time", "x"), np.zeros((4, 6), "i8"))}, "data_type"),
        ({"extra": ("time", np.zeros(4))}, "/extra is not there yet"),
        ({"mask": ("x", np.zeros(6, "u1"))}, "/mask can not be extended: its data_type"),
    ],
)
async def test_what_does_not_fit(archive, change, words):
    write(archive.data / "m0", 0)
    write(archive.data / "m1", 1, **change)
    archive.settle()
    await archive.ingest((archive.data / "m0", "/"), append_dim="time")
    before = archive.history()
    with pytest.raises(InvalidInputError, match=words):
        await archive.ingest((archive.data / "m1", "/"), append_dim="time")
    assert archive.history() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("units", "days since 2001"),
        ("scale_factor", 0.5),
        ("_FillValue", 7),
        ("calendar", "noleap"),
    ],
)
async def test_numbers_that_mean_something_else(archive, name, value):
    """One set of attributes stays for all, so values of another meaning would read wrong."""
    for number, attributes in enumerate(({"units": "days since 2000"}, {name: value})):
        zarr.create_array(
            archive.data / f"m{number}", data=np.arange(4), chunks=(2,), dimension_names=("time",),
            attributes={"units": "days since 2000", "history": f"run {number}"} | attributes,
        )  # fmt: skip
    archive.settle()
    await archive.ingest((archive.data / "m0", "/a"), append_dim="time")
    with pytest.raises(InvalidInputError, match=rf"/a can not be .*its attribute '{name}' is"):
        await archive.ingest((archive.data / "m1", "/a"), append_dim="time")
    await archive.ingest((archive.data / "m0", "/a"), append_dim="time")
    assert arrays_of(archive.store())["a"].tolist() == [0, 1, 2, 3] * 2


async def test_an_array_that_would_end_before_the_others(archive):
    write(archive.data / "m0", 0)
    month(1)[["t"]].drop_vars("time").to_zarr(
        archive.data / "m1", zarr_format=3, encoding={"t": {"chunks": (2, 3)}}, consolidated=False
    )
    archive.settle()
    await archive.ingest((archive.data / "m0", "/"))
    with pytest.raises(InvalidInputError, match=r"/time has the dimension.*nothing"):
        await archive.ingest((archive.data / "m1", "/"), append_dim="time")


async def test_a_dimension_that_nothing_has(archive):
    zarr.create_array(archive.data / "a", data=np.arange(4))
    archive.settle()
    await archive.ingest((archive.data / "a", "/a"))
    with pytest.raises(InvalidInputError, match="no array at /a has the dimension 'time'"):
        await archive.ingest((archive.data / "a", "/a"), append_dim="time")


PLACES = np.arange(6.0)


@pytest.mark.parametrize("owner", ["source", "repository"])
async def test_coordinates_that_stay_have_to_be_the_same(archive, owner):
    xs = {"a": PLACES, "same": PLACES * [-1, 1, 1, 1, 1, 1], "more": PLACES + 1}
    for number, (name, x) in enumerate(xs.items()):
        write(archive.data / name, number, x=("x", x))
    archive.settle()
    await archive.ingest((archive.data / "a", "/all"))
    if owner == "repository":
        session = archive.official().writable_session("main")
        zarr.open_array(session.store, path="all/x")[...] = PLACES
        session.commit("own the places")
    await archive.ingest((archive.data / "same", "/all"), append_dim="time")
    before = archive.history()
    words = "/all/x can not be extended along 'time'.*more has other values of x.*--skip x"
    with pytest.raises(InvalidInputError, match=words):
        await archive.ingest((archive.data / "more", "/all"), append_dim="time")
    assert archive.history() == before
    await archive.ingest((archive.data / "more", "/all"), append_dim="time", skip=["x"])
    found = arrays_of(archive.store(), "all")
    assert np.array_equal(found["x"], PLACES)
    assert found["time"].tolist() == list(range(12))


async def test_coordinates_that_are_gone_are_not_compared(archive):
    write(archive.data / "a", 0, x=("x", PLACES))
    write(archive.data / "b", 1, x=("x", PLACES + 1))
    archive.settle()
    await archive.ingest((archive.data / "a", "/all"))
    (archive.data / "a" / "x" / "c" / "0").unlink()
    await archive.ingest((archive.data / "b", "/all"), append_dim="time")
    assert zarr.open_array(archive.store(), path="all/time", mode="r").shape == (8,)
