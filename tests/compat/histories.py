"""Repositories whose interest lies in their refs and their history."""

from datetime import timedelta

import icechunk

from tests.compat.documents import GROUP, array_document, delete, put, put_all
from tests.compat.place import Made, Place, access, changing, container, create, source

ODD_REFS = ["", ".", "..", "a/b", "main/", "/lead", "x\ny", "\0z", "n" * 300, "ü", "100%", "%2F"]
ODD_REFS += [
    "a%2Fb",
    "#",
    "sp ace",
    "[x]",
    "back\\s",
    "a:b",
    "*",
    "q?",
    '"',
    "b`",
    "{}",
    "|",
    "~",
    "^",
]
# What a directory on Linux can hold and version 1 allows: no "/", no 300 letters.
ODD_REFS_V1 = [name for name in ODD_REFS if "/" not in name and len(name) < 200]


def refs(place: Place, spec: int) -> Made:
    """Branches and tags at different snapshots, one name for both, and a deleted tag."""
    repo = create(place, spec)
    snapshots = [repo.lookup_branch("main"), *(_commit(repo, number) for number in range(3))]
    repo.create_branch("dev", snapshots[1])
    with changing(
        repo, "on dev", branch="dev", metadata={"by": "dev", "n": [1, 2.5, None]}
    ) as store:
        put(store, "dev/zarr.json", GROUP)
    repo.create_branch("v1", snapshots[2])
    repo.create_tag("v1", snapshots[1])
    repo.create_tag("start", snapshots[0])
    repo.create_tag("gone", snapshots[3])
    repo.delete_tag("gone")
    repo.create_branch("away", snapshots[2])
    repo.delete_branch("away")
    repo.create_branch("back", snapshots[3])
    repo.reset_branch("back", snapshots[1])
    if spec > 1:
        for name in ODD_REFS:
            repo.create_branch(name, snapshots[1])
            repo.create_tag(name, snapshots[2])
        repo.create_tag("dele/ted", snapshots[1])
        repo.delete_tag("dele/ted")
    return Made(place, spec).with_refs()


def refs_v1(place: Place, spec: int) -> Made:
    """Names that object_store percent-encodes on a local file system."""
    repo = create(place, spec)
    first, second = _commit(repo, 0), _commit(repo, 1)
    for name in ODD_REFS_V1:
        repo.create_branch(name, first)
        repo.create_tag(name, second)
    repo.create_tag("weg ü", first)
    repo.delete_tag("weg ü")
    return Made(place, spec).with_refs(
        branches=dict.fromkeys(ODD_REFS_V1, first), tags=dict.fromkeys(ODD_REFS_V1, second)
    )


def _commit(repo: icechunk.Repository, number: int) -> str:
    session = repo.writable_session("main")
    put(session.store, "zarr.json", GROUP)
    put(session.store, f"a{number}/zarr.json", array_document((9,), (1,)))
    put(session.store, f"a{number}/c/{number}", bytes([number + 1]) * (600 * number + 1))
    return session.commit(f"commit {number}\nsecond line: ü", metadata={"number": number})


def resized(place: Place, spec: int) -> Made:
    """An array that shrinks and grows again: the chunks cut off do not come back."""
    repo = create(place, spec)
    with changing(repo, "four chunks") as store:
        put(store, "a/zarr.json", array_document((8,), (2,)))
        put_all(store, {f"a/c/{n}": bytes([n + 1]) * 2 for n in range(4)})
    with changing(repo, "shrink") as store:
        put(store, "a/zarr.json", array_document((4,), (2,)))
    with changing(repo, "grow") as store:
        put(store, "a/zarr.json", array_document((10,), (2,)))
        put(store, "a/c/4", b"new")
    with changing(repo, "other chunks") as store:  # old bytes stay under c/0: trap of the format
        put(store, "a/zarr.json", array_document((10,), (5,)))
    return Made(place, spec).with_refs()


def deleted(place: Place, spec: int) -> Made:
    """Nodes deleted and made anew, children left behind, chunks deleted."""
    repo = create(place, spec)
    line = array_document((3,), (1,))
    with changing(repo, "all") as store:
        put_all(
            store,
            {"zarr.json": GROUP, "g/zarr.json": GROUP, "g/x/zarr.json": line, "g/x/c/0": b"x"},
        )
        put_all(
            store, {"a/zarr.json": line, "a/c/0": b"0", "a/c/1": b"1", "a/kid/zarr.json": GROUP}
        )
        put_all(store, {"b/zarr.json": line, "b/c/0": b"0"})
    with changing(repo, "delete") as store:
        for key in ("g/zarr.json", "a/zarr.json", "b/c/0"):
            delete(store, key)
    with changing(repo, "again, as the other kind") as store:
        put_all(store, {"g/zarr.json": line, "g/c/2": b"2"})
    with changing(repo, "nothing", allow_empty=True):
        pass
    return Made(place, spec).with_refs()


def moved(place: Place, spec: int) -> Made:
    """A group and an array that changed their names."""
    repo = create(place, spec)
    with changing(repo, "before") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP, "other/zarr.json": GROUP})
        put_all(store, {"g/a/zarr.json": array_document((2,), (1,)), "g/a/c/1": b"1"})
    session = repo.rearrange_session("main")
    session.move("/g", "/other/h")
    session.move("/other/h/a", "/b")
    session.commit("moved")
    return Made(place, spec).with_refs()


def unreferenced(place: Place, spec: int) -> Made:
    """Anonymous snapshots, and commits that an amendment replaced."""
    repo = create(place, spec)
    _commit(repo, 0)
    for number in range(2):
        session = repo.writable_session("main")
        put(session.store, f"anonymous{number}/zarr.json", array_document((1,), (1,)))
        put(session.store, f"anonymous{number}/c/0", b"?")
        session.flush(f"anonymous {number}")
    _commit(repo, 1)
    session = repo.writable_session("main")
    put(session.store, "amended/zarr.json", GROUP)
    session.amend("amended", metadata={"why": "typo"})
    return Made(place, spec).with_refs()


def expired(place: Place, spec: int) -> Made:
    """History cut off by expiration: the oldest survivor hangs on the first snapshot."""
    repo = create(place, spec)
    for number in range(2):
        _commit(repo, number)
    repo.create_tag("kept", repo.lookup_branch("main"))
    last = repo.lookup_snapshot(_commit(repo, 2))
    _commit(repo, 3)
    repo.expire_snapshots(last.written_at + timedelta(microseconds=1))
    _commit(repo, 4)
    return Made(place, spec).with_refs()


def upgraded(place: Place, spec: int) -> Made:
    """A version 1 repository after the upgrade, with commits from before and after."""
    config = icechunk.RepositoryConfig.default()
    config.inline_chunk_threshold_bytes = 20
    config.set_virtual_chunk_container(container(place))
    repo = create(place, 1, config, authorize_virtual_chunk_access=access(place.prefix))
    repo.save_config()
    location = source(place, "old.bin", b"from before")
    first = _commit(repo, 0)
    with changing(repo, "virtual", metadata={"spec": 1, "ü": {"deep": [True]}}) as store:
        put(store, "v/zarr.json", array_document((4, 4), (2, 2)))
        store.set_virtual_ref("v/c/0/1", location, offset=0, length=4)
    repo.create_branch("dev", first)
    repo.create_tag("before", first)
    repo.create_tag("gone", first)
    repo.delete_tag("gone")
    allow = access(place.prefix)
    repo = icechunk.Repository.open(place.storage, authorize_virtual_chunk_access=allow)
    icechunk.upgrade_icechunk_repository(repo, dry_run=False)
    repo = icechunk.Repository.open(place.storage, authorize_virtual_chunk_access=allow)
    repo.create_tag("upgraded", repo.lookup_branch("main"))
    with changing(repo, "after") as store:
        put(store, "v/c/1/1", b"new!")
        put(store, "w/zarr.json", array_document((1,), (1,)))
    return Made(place, spec, allow=(place.prefix,)).with_refs()


def ops_pages(place: Place, spec: int) -> Made:
    """An ops log of several pages, the older ones in former repo info files."""
    config = icechunk.RepositoryConfig(num_updates_per_repo_info_file=5)
    repo = create(place, spec, config)
    for number in range(6):
        snapshot = _commit(repo, number)
        repo.create_tag(f"t{number}", snapshot)
        repo.create_branch(f"b{number}", snapshot)
    return Made(place, spec).with_refs()


def settings(place: Place, spec: int) -> Made:
    """Containers, feature flags, status, repository metadata: what the repo info can hold."""
    config = icechunk.RepositoryConfig.default()
    config.inline_chunk_threshold_bytes = 7
    config.compression = icechunk.CompressionConfig(level=9)
    config.set_virtual_chunk_container(container(place, "here"))
    for url, store in {
        "s3://bucket/pre/": icechunk.s3_store(region="eu-west-1", anonymous=True),
        "https://example.org/data/": icechunk.http_store(),
        "gs://bucket/": icechunk.gcs_store(),
    }.items():
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(url, store))
    repo = create(place, spec, config, authorize_virtual_chunk_access=access(place.prefix))
    _commit(repo, 0)
    repo.set_metadata({"title": "π", "numbers": [1, -2, 2.5, None, True], "deep": {"a": {"b": []}}})
    repo.update_metadata({"more": "x" * 300})
    repo.set_feature_flag("delete_tag", False)
    repo.set_feature_flag("move_node", True)
    repo.set_status(
        icechunk.RepoStatus(
            availability=icechunk.RepoAvailability.read_only,
            limited_availability_reason="moving house",
        )
    )
    return Made(place, spec, allow=(place.prefix,)).with_refs()
