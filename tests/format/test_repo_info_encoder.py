from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format import building
from tests.format.exercise import exercise
from tests.format.references import text
from zfuse.errors import InvalidInputError, UnsupportedVersionError
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer
from zfuse.format.header import FileType
from zfuse.format.ids import SnapshotId
from zfuse.format.initial import initial_repo_info
from zfuse.format.repo_info import (
    Availability,
    RepoInfo,
    RepoStatus,
    SnapshotInfo,
    Update,
    UpdateKind,
)
from zfuse.format.repo_info_encoder import encode_repo_info

ids = st.binary(min_size=12, max_size=12).map(SnapshotId)
times = st.integers(0, 2**63)
keys = text.filter(lambda key: "\0" not in key)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)
metadata = st.dictionaries(text, json, max_size=3)
versions = st.integers(0, 255)
statuses = st.builds(RepoStatus, st.sampled_from(Availability), times, st.none() | text)
DETAILS = {
    UpdateKind.REPO_INITIALIZED: {},
    UpdateKind.REPO_MIGRATED: {"from_version": versions, "to_version": versions},
    UpdateKind.CONFIG_CHANGED: {},
    UpdateKind.METADATA_CHANGED: {},
    UpdateKind.TAG_CREATED: {"name": text},
    UpdateKind.TAG_DELETED: {"name": text, "previous_snap_id": ids},
    UpdateKind.BRANCH_CREATED: {"name": text},
    UpdateKind.BRANCH_DELETED: {"name": text, "previous_snap_id": ids},
    UpdateKind.BRANCH_RESET: {"name": text, "previous_snap_id": ids},
    UpdateKind.NEW_COMMIT: {"branch": text, "new_snap_id": ids},
    UpdateKind.COMMIT_AMENDED: {"branch": text, "previous_snap_id": ids, "new_snap_id": ids},
    UpdateKind.NEW_DETACHED_SNAPSHOT: {"new_snap_id": ids},
    UpdateKind.GC_RAN: {},
    UpdateKind.EXPIRATION_RAN: {},
    UpdateKind.FEATURE_FLAG_CHANGED: {
        "id": st.integers(0, 2**16 - 1), "new_value": st.booleans(), "is_set": st.booleans(),
    },
    UpdateKind.REPO_STATUS_CHANGED: {"status": statuses},
}  # fmt: skip


@st.composite
def updates(draw):
    kind = draw(st.sampled_from(list(DETAILS)))
    backup = draw(st.none() | text)
    return Update(kind, draw(times), backup, draw(st.fixed_dictionaries(DETAILS[kind])))


@st.composite
def infos(draw):
    known = draw(st.lists(ids, unique=True, min_size=1, max_size=5))
    snapshots = {}
    for n, snapshot_id in enumerate(known):
        parent = draw(st.none() | st.sampled_from(known[:n])) if n else None
        pruned = tuple(draw(st.lists(ids, max_size=2)))
        snapshots[snapshot_id] = SnapshotInfo(
            snapshot_id, parent, draw(times), draw(text), draw(metadata), pruned
        )
    refs = st.dictionaries(text, st.sampled_from(known), max_size=4)
    flags = st.none() | st.lists(st.integers(0, 2**16 - 1), unique=True).map(sorted).map(tuple)
    return RepoInfo(
        spec_version=2,
        tags=draw(refs),
        branches=draw(refs) | {"main": draw(st.sampled_from(known))},
        deleted_tags=tuple(draw(st.lists(text, unique=True, max_size=3))),
        snapshots=snapshots,
        status=draw(statuses),
        metadata=draw(metadata),
        latest_updates=tuple(draw(st.lists(updates(), max_size=4))),
        repo_before_updates=draw(st.none() | text),
        config=draw(st.none() | st.dictionaries(keys, json, max_size=3)),
        enabled_feature_flags=draw(flags),
        disabled_feature_flags=draw(flags),
    )


@given(infos())
def test_round_trip(info):
    data = encode_repo_info(info)
    expected = replace(info, deleted_tags=tuple(sorted(info.deleted_tags, key=str.encode)))
    assert RepoInfo.decode(data) == expected
    assert exercise(data)


def test_every_kind_of_update_is_known():
    assert set(DETAILS) == set(UpdateKind) - {UpdateKind.UNKNOWN}


def root_table(info):
    return FlatBuffer(
        Envelope.decode(encode_repo_info(info), expect=FileType.REPO_INFO).payload
    ).root()


def info(**parts):
    return replace(initial_repo_info(flushed_at=5), **parts)


def sid(number):
    return SnapshotId(bytes([number]) * 12)


def test_everything_is_sorted_and_indices_follow():
    listed = {sid(n): SnapshotInfo(sid(n), parent, n, "m", {}) for n, parent in [
        (9, None), (3, sid(9)), (5, sid(3)),
    ]}  # fmt: skip
    root = root_table(
        info(
            snapshots=listed,
            branches={"ü": sid(3), "main": sid(5), "a": sid(9)},
            tags={"b/": sid(9), "b": sid(3)},
            deleted_tags=("z", "\uffff", "\U0001f9ca", "a"),
            enabled_feature_flags=(9, 3),
        )
    )
    assert [t.struct(0, 12) for t in root.tables(4)] == [sid(3), sid(5), sid(9)]
    assert [t.i32(1) for t in root.tables(4)] == [2, 0, -1]
    assert [(t.string(0), t.u32(1)) for t in root.tables(2)] == [("a", 2), ("main", 1), ("ü", 0)]
    assert [(t.string(0), t.u32(1)) for t in root.tables(1)] == [("b", 0), ("b/", 2)]
    assert root.strings(3) == ["a", "z", "\uffff", "\U0001f9ca"]
    assert root.u16s(10) == (3, 9)
    assert root.u16s(11) is None


def test_a_snapshot_that_was_never_pruned_has_no_list_of_logs():
    assert root_table(info()).tables(4)[0].structs(5, 12) is None


def test_what_can_not_be_written():
    with pytest.raises(InvalidInputError, match="branch main"):
        encode_repo_info(info(branches={}))
    with pytest.raises(InvalidInputError, match="'main' is at the snapshot"):
        encode_repo_info(info(branches={"main": sid(1)}))
    orphan = SnapshotInfo(sid(1), sid(2), 0, "m", {})
    with pytest.raises(InvalidInputError, match="not listed"):
        encode_repo_info(info(snapshots=info().snapshots | {sid(1): orphan}))


def test_updates_of_a_kind_that_came_later_are_not_forgotten():
    newer = {0: building.u8(99), 1: {}, 2: building.u64(7)}
    data = building.repo_info(s7=[newer])
    with pytest.raises(UnsupportedVersionError, match="upgrade"):
        encode_repo_info(RepoInfo.decode(data))
