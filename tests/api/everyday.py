"""Everyday calls, each a function of a world; the same for both libraries.

A world has the library under ``ic``, a repository with some history, and the ids of its
snapshots by their messages.
"""

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import zarr

NOBODY = "1CECHNKREP0F1RSTCMTG"
"""The id of no snapshot."""

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

WITHOUT_ZONE = LONG_AGO.replace(tzinfo=None)


@dataclass
class World:
    """A library, and a repository that it made: see ``make_world``."""

    ic: Any
    storage: Any
    repo: Any
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def names(self):
        """What the ids stand for."""
        return {snapshot_id: f"<{name}>" for name, snapshot_id in self.ids.items()}


def make_world(ic, storage):
    """Make a repository: groups /, /b and /b/c, arrays /a and /b/t; branch dev, tag v1."""
    repo = ic.Repository.create(storage)
    world = World(ic, storage, repo)
    session = repo.writable_session("main")
    root = zarr.group(session.store)
    array = root.create_array("a", shape=(6, 4), chunks=(2, 2), dtype="i4", fill_value=-1)
    array[:4] = 1
    root.create_group("b/c")
    world.ids["first"] = session.commit("first", {"who": "me", "n": [1, {"k": None}]})
    session = repo.writable_session("main")
    root = group(session)
    big = root.create_array("b/t", shape=(2000,), chunks=(1000,), dtype="i4", compressors=None)
    big[:] = 7
    root["a"][4:] = 2
    root["a"].attrs["units"] = "m"
    world.ids["second"] = session.commit("second")
    repo.create_tag("v1", world.ids["first"])
    repo.create_branch("dev", world.ids["first"])
    world.ids["root"] = [info.id for info in repo.ancestry(branch="main")][-1]
    return world


def group(session):
    """Return the root group of a session."""
    return zarr.open_group(session.store, mode="r" if session.read_only else "r+")


def diverged(w, ours, theirs):
    """Return a session of main with the changes *ours* while *theirs* were committed."""
    mine, other = w.repo.writable_session("main"), w.repo.writable_session("main")
    ours(group(mine))
    theirs(group(other))
    w.ids["theirs"] = other.commit("theirs")
    return mine


def both_write(w):
    """Return a session that changed a chunk which somebody else changed, too."""
    return diverged(w, write(5), write(6))


def write(value):
    """Return what writes *value* to the first chunk of /a."""

    def change(root):
        root["a"][0, 0] = value

    return change


def add(name):
    """Return what makes a group."""
    return lambda root: root.create_group(name)


def changed(w, change):
    """Return a session of main with a change that is not committed."""
    session = w.repo.writable_session("main")
    change(group(session))
    return session


def transaction(w, **options):
    """Write in a transaction; return the newest message and what is there."""
    with w.repo.transaction("main", message="tx", **options) as store:
        zarr.open_group(store).create_group("tx")
    newest = next(iter(w.repo.ancestry(branch="main")))
    return newest.message, newest.metadata, sorted(group(w.repo.readonly_session("main")))


def failed_transaction(w):
    """Fail in a transaction; return whether anything was committed."""
    try:
        with w.repo.transaction("main", message="tx") as store:
            zarr.open_group(store).create_group("tx")
            store.no_such_attribute  # noqa: B018 - it fails
    except AttributeError:
        return w.repo.lookup_branch("main")


def commit_of(change, **options):
    """Return what commits a change and tells what became of session and history."""

    def run(w):
        session = changed(w, change)
        made = session.commit("more", **options)
        infos = [i.message for i in w.repo.ancestry(branch="main")]
        return made == session.snapshot_id, session, infos

    return run


def rebased(w, solver, setup=both_write):
    """Rebase and commit; return what the first chunk holds then."""
    session = setup(w)
    session.rebase(solver)
    session.commit("rebased")
    root = group(w.repo.readonly_session("main"))
    return int(root["a"][0, 0]), sorted(root), [i.message for i in w.repo.ancestry(branch="main")]


def chunks(session, path):
    """Return the indices of all chunks of an array."""

    async def collect():
        return sorted([index async for index in session.chunk_coordinates(path)])

    return asyncio.run(collect())


def moved(w, source, target):
    """Move a node and commit; return the change and what is there."""
    session = w.repo.rearrange_session("main")
    session.move(source, target)
    status = session.status()
    session.commit("moved")
    root = group(w.repo.readonly_session("main"))
    return status, sorted(root.members(max_depth=None, consolidated_metadata=None), key=str)


def names_below(w):
    """Return the paths of all nodes of main."""
    root = group(w.repo.readonly_session("main"))
    return sorted(name for name, _ in root.members(max_depth=None))


def moved_names(w, source, target):
    """Move a node and commit; return the change and the paths that there are then."""
    session = w.repo.rearrange_session("main")
    session.move(source, target)
    status = session.status()
    session.commit("moved")
    return status, names_below(w)


def shifted(w, offset):
    """Shift the chunks of an array; return its values."""
    session = w.repo.writable_session("main")
    session.shift_array("/a", offset)
    return group(session)["a"][:].tolist()


def reindexed(w, forward, backward=None):
    """Move the chunks of an array; return its values."""
    session = w.repo.writable_session("main")
    session.reindex_array("/a", forward, backward)
    return group(session)["a"][:].tolist()


def amended(w, change, **options):
    """Amend the last commit; return the messages and the newest metadata."""
    session = changed(w, change)
    session.amend("amended", **options)
    infos = list(w.repo.ancestry(branch="main"))
    return [i.message for i in infos], infos[0].metadata, session, names_below(w)


def flushed(w):
    """Flush a change; return the snapshot, and what the branch has."""
    session = changed(w, add("flushed"))
    made = session.flush("flushed", metadata={"k": 1})
    w.ids["flushed"] = made
    info = w.repo.lookup_snapshot(made)
    return (
        info,
        session,
        w.repo.lookup_branch("main"),
        sorted(group(w.repo.readonly_session(snapshot_id=made))),
    )


def forked(w, count=2):
    """Write chunks in forks and merge them; return what is read after the commit."""
    session = w.repo.writable_session("main")
    forks = [session.fork() for _ in range(count)]
    for number, fork in enumerate(forks):
        group(fork)["a"][2 * number, 0] = 50 + number
    session.merge(*forks)
    status = session.status()
    session.commit("forked")
    return status, group(w.repo.readonly_session("main"))["a"][:, 0].tolist()


def config_saved(w):
    """Change the settings, save them and open again."""
    config = w.ic.RepositoryConfig.default()
    config.inline_chunk_threshold_bytes = 5
    config.manifest = w.ic.ManifestConfig(
        splitting=w.ic.ManifestSplittingConfig.from_dict(
            {
                w.ic.ManifestSplitCondition.path_matches("/a"): {
                    w.ic.ManifestSplitDimCondition.Axis(0): 2,
                    w.ic.ManifestSplitDimCondition.Any(): 7,
                },
                w.ic.ManifestSplitCondition.AnyArray(): {
                    w.ic.ManifestSplitDimCondition.DimensionName("x"): 3
                },
            }
        )
    )
    repo = w.repo.reopen(config=config)
    repo.save_config()
    found = w.ic.Repository.open(w.storage).config
    return (
        found.inline_chunk_threshold_bytes,
        str(found.manifest.splitting.to_dict()).replace("icechunk.config.", ""),
        w.ic.Repository.fetch_config(w.storage).inline_chunk_threshold_bytes,
        next(type(u.kind).__name__ for u in repo.ops_log()),
    )


def expired(w):
    """Expire all but the newest snapshots; return what history is left."""
    w.repo.delete_branch("dev")
    w.repo.delete_tag("v1")
    gone = w.repo.expire_snapshots(dt.datetime.now(dt.UTC))
    history = [info.message for info in w.repo.ancestry(branch="main")]
    collected = w.repo.garbage_collect(dt.datetime.now(dt.UTC))
    return gone, history, collected.snapshots_deleted, names_below(w)


def default_metadata(w):
    """Commit with metadata that go into each commit."""
    w.repo.set_default_commit_metadata({"who": "robot", "run": 1})
    session = w.repo.writable_session("main")
    group(session).create_group("g")
    session.commit("m", {"run": 2})
    return w.repo.default_commit_metadata(), next(iter(w.repo.ancestry(branch="main"))).metadata


def flags(w):
    """Forbid tags, try one, and leave it to the default again."""
    w.repo.set_feature_flag("create_tag", False)
    disabled = w.repo.disabled_feature_flags()
    try:
        w.repo.create_tag("no", w.ids["first"])
    except w.ic.IcechunkError as exc:
        refused = type(exc).__name__
    w.repo.set_feature_flag("create_tag", None)

    def by_id(flags):
        return sorted(flags, key=lambda flag: flag.id)

    return disabled, refused, by_id(w.repo.feature_flags()), by_id(w.repo.enabled_feature_flags())


def status(w):
    """Set the repository read-only, try to write, and set it online again."""
    w.repo.set_status(
        w.ic.RepoStatus(w.ic.RepoAvailability.read_only, limited_availability_reason="moving")
    )
    found, refused = w.repo.status, []
    for call in (
        lambda: w.repo.writable_session("main"),
        lambda: w.repo.create_branch("x", w.ids["first"]),
        lambda: w.repo.set_metadata({}),
    ):
        try:
            call()
        except w.ic.IcechunkError as exc:
            refused.append((type(exc).__name__, str(exc.kind)))
    w.repo.set_status(w.ic.RepoStatus(w.ic.RepoAvailability.online))
    return found, refused, w.repo.get_status()
