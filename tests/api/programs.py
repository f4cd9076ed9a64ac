"""Programs for the official library, each a text in which only the import changes.

They stay within what its documentation shows: first steps, versions, travelling in time,
conflicts, xarray. ``place`` is an empty directory.
"""

SHARDED = """
import numpy as np
import zarr
import icechunk

repo = icechunk.Repository.create(icechunk.in_memory_storage())
session = repo.writable_session("main")
array = zarr.create_array(
    session.store, shape=(100, 100), chunks=(10, 10), shards=(50, 50), dtype="float64"
)
array[:] = np.arange(10_000, dtype="float64").reshape(100, 100)
snapshot_id = session.commit("a sharded array")
print(snapshot_id)
read = zarr.open_array(repo.readonly_session("main").store, mode="r")
print(read.shape, read.chunks, read.shards, float(read[:].sum()), float(read[73, 12]))
print(snapshot_id == repo.lookup_branch("main"))
"""

RECTILINEAR = """
import numpy as np
import zarr
import icechunk as ic

with zarr.config.set({"array.rectilinear_chunks": True}):
    repo = ic.Repository.create(ic.in_memory_storage())
    session = repo.writable_session("main")
    array = zarr.create_array(
        session.store, shape=(10, 12), chunks=[[3, 3, 4], [4, 4, 4]], dtype="int32"
    )
    array[:] = np.arange(120).reshape(10, 12)
    array[3:6, 4:8] = -1
    print(session.commit("chunks of several sizes"))
    read = zarr.open_array(repo.readonly_session("main").store, mode="r")
    print(read[2:7, 3:9].tolist(), int(read[:].sum()))
    print(sorted(repo.diff(from_snapshot_id=list(repo.ancestry(branch="main"))[1].id,
                           to_branch="main").updated_chunks["/"]))
"""

CONTAINER = """
import icechunk as ic
from icechunk import config, credentials, storage, virtual

settings = config.RepositoryConfig.default()
settings.set_virtual_chunk_container(
    virtual.VirtualChunkContainer("s3://bucket/", storage.s3_store(region="us-west-2"))
)
access = credentials.containers_credentials(
    {"s3://bucket/": credentials.s3_credentials(anonymous=True)}
)
here = storage.local_filesystem_storage(place + "/repo")
repo = ic.Repository.create(here, settings, authorize_virtual_chunk_access=access)
repo.save_config()
print(sorted(repo.config.virtual_chunk_containers), repo.authorized_virtual_container_prefixes)
again = ic.Repository.open(here, authorize_virtual_chunk_access=access)
found = again.config.get_virtual_chunk_container("s3://bucket/")
print(found.url_prefix, found.name, type(found.store).__name__)

import zarr

session = again.writable_session("main")
array = zarr.create_array(
    session.store, name="a", shape=(4,), chunks=(2,), dtype="u1", compressors=None, filters=None
)
session.store.set_virtual_ref("a/c/0", "s3://bucket/file", offset=0, length=2)
print(session.all_virtual_chunk_locations(), session.chunk_type("/a", [0]))
try:
    session.store.set_virtual_ref("a/c/1", "s3://elsewhere/file", offset=0, length=2)
except Exception as exc:
    print(type(exc).__name__)
print(session.commit("virtual"))
"""

QUICK_START = """
import icechunk
import zarr

storage = icechunk.local_filesystem_storage(place + "/repo")
repo = icechunk.Repository.create(storage)
session = repo.writable_session("main")
group = zarr.group(store=session.store)
array = group.create("my_array", shape=10, dtype="int32", chunks=(5,))
array[:] = 1
first = session.commit("first commit")
print(first)

session = repo.writable_session("main")
group = zarr.open_group(store=session.store)
array = group["my_array"]
array[:5] = 2
second = session.commit("overwrite some values")
hist = list(repo.ancestry(snapshot_id=second))
for ancestor in hist:
    print(ancestor.id, ancestor.message, ancestor.parent_id)
print(array[0])

session = repo.readonly_session(snapshot_id=hist[1].id)
root = zarr.open_group(session.store, mode="r")
print(root["my_array"][0])
print(icechunk.Repository.exists(storage), sorted(repo.list_branches()))
"""

VERSIONS = """
import icechunk as ic
import zarr

repo = ic.Repository.create(ic.in_memory_storage())
print([(s.message, s.parent_id) for s in repo.ancestry(branch="main")])

session = repo.writable_session("main")
root = zarr.group(session.store)
root.attrs["foo"] = "bar"
print(session.has_uncommitted_changes, session.status())
print(session.commit(message="Add foo attribute to root group"))

session = repo.writable_session("main")
zarr.open_group(session.store).attrs["foo"] = "baz"
snapshot = session.commit("Update foo", metadata={"author": "me", "steps": [1, 2]})
print([(s.id, s.message, sorted(s.metadata.items())) for s in repo.ancestry(branch="main")])

main = repo.lookup_branch("main")
dev = repo.create_branch("dev", snapshot_id=main)
session = repo.writable_session("dev")
zarr.open_group(session.store).attrs["foo"] = "balogna"
print(session.commit("Update foo on dev"), session.branch, session.read_only)
print(zarr.open_group(repo.readonly_session("main").store, mode="r").attrs["foo"])
print(zarr.open_group(repo.readonly_session("dev").store, mode="r").attrs["foo"])
repo.reset_branch("main", repo.lookup_branch("dev"))
repo.delete_branch("dev")
print(sorted(repo.list_branches()), repo.lookup_branch("main"))

repo.create_tag("v1.0.0", snapshot_id=repo.lookup_branch("main"))
print(repo.list_tags(), repo.lookup_tag("v1.0.0"))
tagged = repo.readonly_session(tag="v1.0.0")
print(dict(zarr.open_group(tagged.store, mode="r").attrs))
repo.delete_tag("v1.0.0")
for again in (lambda: repo.create_tag("v1.0.0", main), lambda: repo.lookup_tag("v1.0.0"),
              lambda: repo.delete_branch("main"), lambda: repo.writable_session("dev")):
    try:
        again()
    except ic.IcechunkError as exc:
        print(type(exc).__name__, exc.kind)
"""

TIME_TRAVEL = """
import datetime
import icechunk as ic
import zarr

repo = ic.Repository.create(ic.in_memory_storage())
moments = []
for number in range(4):
    with repo.transaction("main", message=f"state {number}") as store:
        if number == 0:
            zarr.create_array(store, shape=(3,), chunks=(3,), dtype="i8", fill_value=0)
        zarr.open_array(store, mode="a")[:] = number
    moments.append(next(iter(repo.ancestry(branch="main"))).written_at)
for moment in moments:
    session = repo.readonly_session("main", as_of=moment)
    print(zarr.open_array(session.store, mode="r")[:].tolist())
before = moments[0] - datetime.timedelta(days=1)
try:
    repo.readonly_session("main", as_of=before)
except ic.SnapshotNotFoundError as exc:
    print(type(exc).__name__)
written = [s.written_at for s in repo.ancestry(branch="main")]
print(written == sorted(written, reverse=True), written[0].tzinfo is not None)
diff = repo.diff(from_snapshot_id=list(repo.ancestry(branch="main"))[-1].id, to_branch="main")
print(diff.new_arrays, {k: sorted(v) for k, v in diff.updated_chunks.items()}, diff.is_empty())
print([type(update.kind).__name__ for update in repo.ops_log()])
"""

CONFLICTS = """
import icechunk
import zarr

repo = icechunk.Repository.create(icechunk.in_memory_storage())
session = repo.writable_session("main")
root = zarr.group(session.store)
root.attrs["foo"] = "bar"
root.create_array("data", shape=(10, 10), chunks=(1, 1), dtype="i4")
session.commit("initialize")

session1 = repo.writable_session("main")
session2 = repo.writable_session("main")
zarr.open_group(session1.store)["data"][0, 0] = 5
zarr.open_group(session2.store)["data"][0, :] = 5
print(session1.commit("Update first element"))
try:
    session2.commit("Update first row of data array")
except icechunk.ConflictError as exc:
    print(exc.expected_parent, exc.actual_parent, exc.expected_parent != exc.actual_parent)
try:
    session2.rebase(icechunk.ConflictDetector())
except icechunk.RebaseFailedError as exc:
    for conflict in exc.conflicts:
        print(conflict.conflict_type, conflict.path, conflict.conflicted_chunks)
solver = icechunk.BasicConflictSolver(on_chunk_conflict=icechunk.VersionSelection.UseOurs)
session2.rebase(solver)
print(session2.commit("Update first row of data array"))
print(zarr.open_group(repo.readonly_session("main").store, mode="r")["data"][:2].tolist())

def clash(ours, theirs, solver):
    mine, other = repo.writable_session("main"), repo.writable_session("main")
    ours(zarr.open_group(mine.store))
    theirs(zarr.open_group(other.store))
    other.commit("theirs")
    try:
        return mine.commit("ours", rebase_with=solver)
    except icechunk.RebaseFailedError as exc:
        return [(str(c.conflict_type), c.path, c.conflicted_chunks) for c in exc.conflicts]

def name(units):
    def change(root):
        root["data"].attrs["units"] = units
    return change

def write(value, row):
    def change(root):
        root["data"][row, 2] = value
    return change

print(clash(write(1, 3), write(2, 4), icechunk.ConflictDetector()))
print(clash(write(1, 5), write(2, 5), icechunk.ConflictDetector()))
print(clash(name("m"), name("K"), solver))
print(clash(write(3, 5), name("s"), solver))
print(clash(write(7, 6), write(8, 6), icechunk.BasicConflictSolver(
    on_chunk_conflict=icechunk.VersionSelection.UseTheirs)))
print(zarr.open_group(repo.readonly_session("main").store, mode="r")["data"][:, 2].tolist())
print([s.message for s in repo.ancestry(branch="main")])
"""

XARRAY = """
import icechunk
import numpy as np
import xarray as xr

def month(first, count):
    time = np.datetime64("2020-01-01", "ns") + np.arange(first, first + count) * np.timedelta64(
        1, "D")
    values = np.arange(first * 6, (first + count) * 6, dtype="float32").reshape(count, 2, 3)
    return xr.Dataset(
        {"air": (("time", "y", "x"), values, {"units": "K"})},
        coords={"time": time, "y": [10.0, 20.0], "x": [1, 2, 3]},
        attrs={"title": "made up"},
    )

storage = icechunk.local_filesystem_storage(place + "/xarray")
repo = icechunk.Repository.create(storage)
session = repo.writable_session("main")
month(0, 31).to_zarr(session.store, zarr_format=3, consolidated=False)
first = session.commit("add January")

session = repo.writable_session("main")
month(31, 29).to_zarr(session.store, append_dim="time", consolidated=False)
session.commit("append February")

ds = xr.open_zarr(repo.readonly_session("main").store, consolidated=False)
print(dict(ds.sizes), float(ds.air.sum()), ds.attrs, ds.air.attrs)
print(str(ds.time.values[-1])[:10], float(ds.air.sel(time="2020-02-10", x=2, y=20.0)))
old = xr.open_zarr(repo.readonly_session(snapshot_id=first).store, consolidated=False)
print(dict(old.sizes), old.air.isel(time=-1).values.tolist())
diff = repo.diff(from_snapshot_id=first, to_branch="main")
print(sorted(diff.updated_arrays), sorted(diff.new_arrays))
session = repo.writable_session("main")
month(0, 2).isel(time=slice(1, 2), drop=False).drop_vars(["x", "y"]).to_zarr(
    session.store, region={"time": slice(5, 6)}, consolidated=False)
print(sorted(session.status().updated_chunks))
session.discard_changes()
print(session.has_uncommitted_changes)
"""

PROGRAMS = {
    "sharded": SHARDED,
    "rectilinear": RECTILINEAR,
    "container": CONTAINER,
    "quick start": QUICK_START,
    "versions": VERSIONS,
    "time travel": TIME_TRAVEL,
    "conflicts": CONFLICTS,
    "xarray": XARRAY,
}
