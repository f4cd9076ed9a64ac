"""Virtual data sets of the user's own go into a session as VirtualiZarr's writer puts them."""

import datetime
import warnings

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset, open_virtual_datatree
from virtualizarr.parsers import HDFParser, ZarrParser

import zfuse
import zfuse.virtual
from tests.ingest.archive import arrays_of, equal_arrays, settle

pytestmark = [
    pytest.mark.compat,
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs"),
]


def month(number: int) -> xr.Dataset:
    values = np.arange(24.0).reshape(4, 6) + 100 * number
    values[0, 0] = np.nan
    days = np.arange("2000-01-01", "2000-01-05", dtype="M8[D]").astype("M8[ns]")
    coords = {"time": days + np.timedelta64(4 * number, "D"), "x": np.arange(6)}
    data = xr.Dataset(
        {"t": (("time", "x"), values, {"units": "K"}), "mask": ("x", np.arange(6) % 2)}, coords
    )
    return data.assign_attrs(title="months")


def write_files(directory) -> None:
    chunks = {"t": {"chunksizes": (2, 3), "zlib": True}, "time": {"units": "days since 2000-01-01"}}
    for number in range(2):
        month(number).to_netcdf(directory / f"m{number}.nc", engine="netcdf4", encoding=chunks)
    shape = {"t": {"chunks": (2, 3)}, "time": {"units": "days since 2000-01-01"}}
    tree = xr.DataTree.from_dict({"/one": month(0), "/inner/deep": month(1)})
    tree.to_zarr(
        directory / "tree.zarr", zarr_format=3, consolidated=False,
        encoding={"/one": shape, "/inner/deep": shape},
    )  # fmt: skip
    settle(directory)


def opened(place, loaded=("time", "x")):
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if place.suffix == ".zarr":
            return open_virtual_datatree(
                f"file://{place}", registry=registry, parser=ZarrParser(), loadable_variables=[]
            )
        return open_virtual_dataset(
            f"file://{place}",
            registry=registry,
            parser=HDFParser(),
            loadable_variables=list(loaded),
        )


class Both:
    """The same repository made twice: with zfuse, and with the official library."""

    def __init__(self, directory):
        self.data = directory / "data"
        self.data.mkdir()
        write_files(self.data)
        prefix = f"file://{self.data}/"
        self.repositories = []
        for library in (zfuse, icechunk):
            config = library.RepositoryConfig.default()
            store = library.local_filesystem_store(str(self.data))
            config.set_virtual_chunk_container(library.VirtualChunkContainer(prefix, store))
            place = str(directory / library.__name__)
            access = {prefix: library.credentials.LocalFileSystemAccess}
            self.repositories.append(
                library.Repository.create(
                    library.local_filesystem_storage(place),
                    config,
                    authorize_virtual_chunk_access=access,
                )
            )
        self.ours, self.theirs = self.repositories

    def write(self, virtual, **how) -> None:
        """Write to both, and commit."""
        session = self.ours.writable_session("main")
        zfuse.virtual.write(virtual, session.store, **how)
        session.commit("x")
        session = self.theirs.writable_session("main")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            virtual.vz.to_icechunk(session.store, **how)
        session.commit("x")

    def compare(self, *, locations=True) -> dict[str, np.ndarray]:
        """Check that both have the same nodes, values and references; return the values."""
        ours, theirs = (repo.readonly_session("main") for repo in self.repositories)
        found, expected = arrays_of(ours.store), arrays_of(theirs.store)
        equal_arrays(found, expected)
        for name in ("", *found):
            first, second = (zarr.open(s.store, path=name, mode="r") for s in (ours, theirs))
            assert first.attrs.asdict() == second.attrs.asdict(), name
            if name:
                assert first.metadata.to_dict() == second.metadata.to_dict(), name
        if not locations:
            return found
        listed = [sorted(s.all_virtual_chunk_locations()) for s in (ours, theirs)]
        assert listed[0] == listed[1]
        return found


@pytest.fixture
def both(tmp_path):
    return Both(tmp_path)


@pytest.mark.parametrize("group", [None, "some/where"])
@pytest.mark.parametrize("loaded", [(), ("time", "x"), ("mask",)])
def test_a_data_set(both, group, loaded):
    both.write(opened(both.data / "m0.nc", loaded), group=group)
    both.compare()
    store = both.ours.readonly_session("main").store
    with xr.open_dataset(store, group=group, engine="zarr", consolidated=False) as found:
        xr.testing.assert_identical(found.load().drop_encoding(), month(0))


def test_a_tree(both):
    both.write(opened(both.data / "tree.zarr"))
    found = both.compare()
    assert "inner/deep/t" in found


@pytest.mark.parametrize("loaded", [(), ("time", "x")])
def test_append(both, loaded):
    both.write(opened(both.data / "m0.nc", loaded))
    both.write(opened(both.data / "m1.nc", loaded), append_dim="time")
    # VirtualiZarr lets arrays without the dimension lead to the second file, zfuse to the first.
    assert both.compare(locations=False)["t"].shape == (8, 6)


def test_append_of_times_since_another_day(both):
    """VirtualiZarr's writer takes them, and the times of the second month read as the first's."""
    both.write(opened(both.data / "m0.nc", ()))
    virtual = opened(both.data / "m1.nc", ())
    virtual["time"].attrs["units"] = "days since 2000-01-05"
    session = both.ours.writable_session("main")
    with pytest.raises(zfuse.IcechunkError, match="/time can not be extended: its attribute 'unit"):
        zfuse.virtual.write(virtual, session.store, append_dim="time")
    assert not session.has_uncommitted_changes


def test_data_sets_that_xarray_combined(both):
    parts = [opened(both.data / f"m{number}.nc") for number in range(2)]
    both.write(
        xr.concat(
            parts, "time", coords="minimal", data_vars="minimal", compat="override",
            combine_attrs="override",
        )
    )  # fmt: skip
    assert both.compare()["t"].shape == (8, 6)


def test_references_outside_of_all_containers(both, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    write_files(tmp_path / "elsewhere")
    session = both.ours.writable_session("main")
    virtual = opened(tmp_path / "elsewhere" / "m0.nc")
    with pytest.raises(zfuse.IcechunkError, match=r"m0\.nc lies in no virtual chunk"):
        zfuse.virtual.write(virtual, session.store)
    assert not session.has_uncommitted_changes
    zfuse.virtual.write(virtual, session.store, validate_containers=False)
    assert session.has_uncommitted_changes


def test_modes(both):
    virtual = opened(both.data / "m0.nc", ())
    session = both.ours.writable_session("main")
    zfuse.virtual.write(virtual[["t"]], session.store)
    for mode in (None, "w-"):
        with pytest.raises(zfuse.IcechunkError, match="exists"):
            zfuse.virtual.write(virtual, session.store, mode=mode)
    with pytest.raises(zfuse.IcechunkError, match="/t exists"):
        zfuse.virtual.write(virtual, session.store, mode="a")
    zfuse.virtual.write(virtual[["mask"]].drop_vars(["x"]), session.store, mode="a")
    assert {"t", "mask", "time", "x"} == set(arrays_of(session.store))
    zfuse.virtual.write(virtual[["mask"]], session.store, mode="w")
    assert set(arrays_of(session.store)) == {"mask", "x"}
    with pytest.raises(zfuse.IcechunkError, match="only reads"):
        zfuse.virtual.write(virtual, both.ours.readonly_session("main").store)


def test_what_was_modified_later_is_not_read(both):
    past = datetime.datetime(2019, 1, 1, tzinfo=datetime.UTC)
    virtual = opened(both.data / "m0.nc", ())
    session = both.ours.writable_session("main")
    zfuse.virtual.write(virtual, session.store, last_updated_at=past)
    with pytest.raises(zfuse.IcechunkError, match="changed since"):
        arrays_of(session.store)


def test_ingest_from_python(both):
    report = zfuse.virtual.ingest(both.data / "tree.zarr", both.ours, into="a/b")
    assert report.ingested[0].node == "/a/b"
    told = []
    report = zfuse.virtual.ingest(
        [both.data / "m0.nc", both.data / "m1.nc"],
        both.ours,
        message="months",
        progress=lambda *what: told.append(what),
    )
    assert [each.node for each in report.ingested] == ["/m0", "/m1"]
    assert told[-1] == ("writing", 1, 1)
    zfuse.virtual.ingest({both.data / "m0.nc": "x", both.data / "m1.nc": "y"}, both.ours)
    found = arrays_of(both.ours.readonly_session("main").store)
    assert {"a/b/one/t", "a/b/inner/deep/t", "m0/t", "m1/t", "x/t", "y/t"} <= set(found)
    assert next(iter(both.ours.ancestry(branch="main"))).message.startswith("ingest file:///")
    with pytest.raises(zfuse.IcechunkError, match="/x exists"):
        zfuse.virtual.ingest({both.data / "m0.nc": "x"}, both.ours)
