from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    ReadOnlyError,
)
from zfuse.format import repo_update as change
from zfuse.format.ids import INITIAL_SNAPSHOT, SnapshotId
from zfuse.format.initial import initial_repo_info
from zfuse.format.repo_info import Availability, RepoInfo, SnapshotInfo, Update, UpdateKind
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.format.repo_update import FeatureFlag, Stamp, later

START = initial_repo_info(flushed_at=1000)


def sid(number):
    return SnapshotId(bytes([number]) * 12)


def snapshot(number, parent=INITIAL_SNAPSHOT, at=2000, **parts):
    return SnapshotInfo(sid(number), parent, at, f"commit {number}", {}, **parts)


def stamp(at=5000, name="before"):
    return Stamp(at, name)


def committed(*numbers, info=START):
    """Return *info* after commits to main."""
    for number in numbers:
        tip = info.branches["main"]
        at = info.snapshots[tip].flushed_at + 1
        info = change.add_commit(info, "main", snapshot(number, tip, at), stamp(at, f"b{number}"))
    return info


def head(info):
    """Return what the newest entry of the ops log says."""
    update = info.latest_updates[0]
    assert update.backup_path is None
    return update.kind, dict(update.details)


def test_commit():
    info = committed(7)
    assert info.branches == {"main": sid(7)}
    assert info.snapshots[sid(7)].parent_id == INITIAL_SNAPSHOT
    assert head(info) == (UpdateKind.NEW_COMMIT, {"branch": "main", "new_snap_id": sid(7)})
    assert START.branches == {"main": INITIAL_SNAPSHOT}


def test_commit_to_a_branch_that_moved():
    with pytest.raises(ConflictError, match=str(sid(7))):
        change.add_commit(committed(7), "main", snapshot(8), stamp())


def test_commit_to_no_branch():
    with pytest.raises(NotFoundError, match="'dev'"):
        change.add_commit(START, "dev", snapshot(8), stamp())


def test_commits_that_are_not_new():
    info = change.create_branch(committed(7), "dev", INITIAL_SNAPSHOT, stamp())
    with pytest.raises(AlreadyExistsError):
        change.add_commit(info, "dev", snapshot(7), stamp())
    with pytest.raises(InvalidInputError, match="later"):
        change.add_commit(info, "dev", snapshot(8, at=1000), stamp())


def test_amend():
    pruned = snapshot(7, pruned_ancestor_tx_logs=(sid(1), sid(2)))
    info = replace(committed(7), snapshots=committed(7).snapshots | {sid(7): pruned})
    amended = change.amend(info, "main", sid(7), snapshot(8), stamp())
    assert amended.branches == {"main": sid(8)}
    assert amended.snapshots[sid(8)].pruned_ancestor_tx_logs == (sid(1), sid(2))
    assert sid(7) in amended.snapshots
    assert head(amended) == (
        UpdateKind.COMMIT_AMENDED,
        {"branch": "main", "previous_snap_id": sid(7), "new_snap_id": sid(8)},
    )


def test_amend_what_can_not_be():
    with pytest.raises(NotAllowedError, match="first"):
        change.amend(START, "main", INITIAL_SNAPSHOT, snapshot(8), stamp())
    with pytest.raises(ConflictError):
        change.amend(committed(6, 7), "main", sid(6), snapshot(8), stamp())
    with pytest.raises(InvalidInputError, match="parent"):
        change.amend(committed(6, 7), "main", sid(7), snapshot(8, sid(7), 9999), stamp())


def test_detached():
    info = change.add_detached(committed(7), snapshot(8, sid(7), 3000), stamp())
    assert info.branches == {"main": sid(7)}
    assert head(info) == (UpdateKind.NEW_DETACHED_SNAPSHOT, {"new_snap_id": sid(8)})
    with pytest.raises(NotFoundError):
        change.add_detached(START, snapshot(8, sid(9)), stamp())


def test_branches():
    info = change.create_branch(committed(7), "a/b", INITIAL_SNAPSHOT, stamp())
    assert head(info) == (UpdateKind.BRANCH_CREATED, {"name": "a/b"})
    info = change.reset_branch(info, "a/b", sid(7), stamp(), expected=INITIAL_SNAPSHOT)
    assert info.branches == {"main": sid(7), "a/b": sid(7)}
    previous = {"name": "a/b", "previous_snap_id": INITIAL_SNAPSHOT}
    assert head(info) == (UpdateKind.BRANCH_RESET, previous)
    info = change.delete_branch(info, "a/b", stamp())
    assert info.branches == {"main": sid(7)}
    assert head(info) == (UpdateKind.BRANCH_DELETED, {"name": "a/b", "previous_snap_id": sid(7)})


def test_branches_that_can_not_be_changed():
    with pytest.raises(AlreadyExistsError):
        change.create_branch(START, "main", INITIAL_SNAPSHOT, stamp())
    with pytest.raises(NotFoundError, match="snapshot"):
        change.create_branch(START, "dev", sid(9), stamp())
    with pytest.raises(NotAllowedError, match="main"):
        change.delete_branch(START, "main", stamp())
    with pytest.raises(NotFoundError, match="'dev'"):
        change.delete_branch(START, "dev", stamp())
    with pytest.raises(NotFoundError, match="'dev'"):
        change.reset_branch(START, "dev", INITIAL_SNAPSHOT, stamp())
    with pytest.raises(NotFoundError, match="snapshot"):
        change.reset_branch(START, "main", sid(9), stamp())
    with pytest.raises(ConflictError):
        change.reset_branch(START, "main", INITIAL_SNAPSHOT, stamp(), expected=sid(9))


def test_tags():
    info = change.create_tag(START, "v1", INITIAL_SNAPSHOT, stamp())
    assert info.tags == {"v1": INITIAL_SNAPSHOT}
    assert head(info) == (UpdateKind.TAG_CREATED, {"name": "v1"})
    with pytest.raises(AlreadyExistsError):
        change.create_tag(info, "v1", INITIAL_SNAPSHOT, stamp())
    info = change.delete_tag(info, "v1", stamp())
    assert (info.tags, info.deleted_tags) == ({}, ("v1",))
    details = {"name": "v1", "previous_snap_id": INITIAL_SNAPSHOT}
    assert head(info) == (UpdateKind.TAG_DELETED, details)
    with pytest.raises(AlreadyExistsError, match="never reused"):
        change.create_tag(info, "v1", INITIAL_SNAPSHOT, stamp())
    with pytest.raises(NotFoundError):
        change.delete_tag(info, "v1", stamp())
    with pytest.raises(NotFoundError):
        change.create_tag(info, "v2", sid(9), stamp())


def test_settings():
    info = change.set_metadata(START, {"a": 1}, stamp())
    assert (info.metadata, head(info)) == ({"a": 1}, (UpdateKind.METADATA_CHANGED, {}))
    info = change.set_config(info, {"compression": None}, stamp())
    assert (info.config, head(info)) == ({"compression": None}, (UpdateKind.CONFIG_CHANGED, {}))


def test_flags():
    def flags(info):
        return info.enabled_feature_flags, info.disabled_feature_flags

    info = change.set_flag(START, FeatureFlag.DELETE_TAG, stamp(), value=False)
    assert flags(info) == (None, (5,))
    assert head(info)[1] == {"id": 5, "new_value": False, "is_set": True}
    info = change.set_flag(info, FeatureFlag.MOVE_NODE, stamp(), value=False)
    assert flags(info) == (None, (3, 5))
    assert not change.allows(info, FeatureFlag.MOVE_NODE)
    info = change.set_flag(info, FeatureFlag.MOVE_NODE, stamp(), value=True)
    assert flags(info) == ((3,), (5,))
    assert change.allows(info, FeatureFlag.MOVE_NODE)
    info = change.set_flag(info, FeatureFlag.MOVE_NODE, stamp(), value=None)
    assert flags(info) == ((), (5,))
    assert head(info)[1] == {"id": 3, "new_value": False, "is_set": False}


def test_what_flags_forbid():
    info = change.create_tag(START, "v1", INITIAL_SNAPSHOT, stamp())
    info = change.set_flag(info, FeatureFlag.CREATE_TAG, stamp(), value=False)
    info = change.set_flag(info, FeatureFlag.DELETE_TAG, stamp(), value=False)
    with pytest.raises(NotAllowedError, match="create_tag"):
        change.create_tag(info, "v2", INITIAL_SNAPSHOT, stamp())
    with pytest.raises(NotAllowedError, match="delete_tag"):
        change.delete_tag(info, "v1", stamp())


CHANGES = {
    "commit": lambda info: change.add_commit(info, "main", snapshot(8), stamp()),
    "amend": lambda info: change.amend(info, "main", INITIAL_SNAPSHOT, snapshot(8), stamp()),
    "detached": lambda info: change.add_detached(info, snapshot(8), stamp()),
    "new branch": lambda info: change.create_branch(info, "b", INITIAL_SNAPSHOT, stamp()),
    "no branch": lambda info: change.delete_branch(info, "b", stamp()),
    "reset": lambda info: change.reset_branch(info, "main", INITIAL_SNAPSHOT, stamp()),
    "new tag": lambda info: change.create_tag(info, "b", INITIAL_SNAPSHOT, stamp()),
    "no tag": lambda info: change.delete_tag(info, "b", stamp()),
    "metadata": lambda info: change.set_metadata(info, {}, stamp()),
    "config": lambda info: change.set_config(info, {}, stamp()),
    "flag": lambda info: change.set_flag(info, FeatureFlag.MOVE_NODE, stamp(), value=True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_repository_that_takes_no_changes(name):
    info = change.set_status(START, Availability.READ_ONLY, "moving house", stamp())
    with pytest.raises(ReadOnlyError, match="moving house"):
        CHANGES[name](info)


def test_status():
    info = change.set_status(START, Availability.READ_ONLY, None, stamp(at=7000))
    assert (info.status.availability, info.status.set_at) == (Availability.READ_ONLY, 7000)
    assert head(info) == (UpdateKind.REPO_STATUS_CHANGED, {"status": info.status})
    again = change.set_status(info, Availability.ONLINE, None, stamp(at=8000))
    assert committed(7, info=again).branches == {"main": sid(7)}


def test_the_former_newest_entry_gets_the_backup():
    info = committed(1, 2, 3)
    assert [update.backup_path for update in info.latest_updates] == [None, "b3", "b2", "b1"]
    assert info.repo_before_updates is None


def test_times_of_the_ops_log_ascend_even_if_the_clock_does_not():
    info = START
    for at in (5000, 5000, 10, 6000):
        info = change.set_metadata(info, {}, stamp(at=at))
    assert [update.updated_at for update in info.latest_updates] == [6000, 5002, 5001, 5000, 1000]


@given(st.integers(), st.lists(st.integers()))
def test_later(now, others):
    found = later(now, *others)
    assert found >= now
    assert all(found > other for other in others)
    assert found == now or found - 1 in others


def pages(size, count):
    """Make *count* changes; return the last value, and every former one by its backup's name."""
    info, backups = START, {}
    for number in range(count):
        name = f"before {number}"
        backups[name] = info
        info = change.set_metadata(info, {}, Stamp(2000 + number, name, page_size=size))
    return info, backups


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 20])
def test_pages_of_the_ops_log_have_every_entry_once(size, count):
    info, backups = pages(size, count)
    times = [update.updated_at for update in info.latest_updates]
    assert len(times) <= max(size, 1)
    while info.repo_before_updates is not None:
        info = backups[info.repo_before_updates]
        times += [update.updated_at for update in info.latest_updates]
    assert times == [*reversed(range(2000, 2000 + count)), 1000]


def test_entries_without_a_backup_do_not_end_a_page():
    migrated = tuple(Update(UpdateKind.TAG_CREATED, 900 - n, None, {"name": "x"}) for n in range(5))
    info = replace(START, latest_updates=(*START.latest_updates, *migrated))
    for number in range(4):
        info = change.set_metadata(info, {}, Stamp(2000 + number, f"before {number}", page_size=3))
        if number < 2:
            assert len(info.latest_updates) == 7 + number
    assert [update.updated_at for update in info.latest_updates] == [2003, 2002, 2001]
    assert info.repo_before_updates == "before 1"


def test_changes_survive_the_file():
    info = committed(1, 2)
    assert RepoInfo.decode(encode_repo_info(info)) == info
