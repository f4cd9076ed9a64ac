import pytest

from tests.format import building
from tests.format.building import (
    ID,
    flexbuffer,
    item,
    repo_info,
    snapshot_info,
    structs,
    u8,
    u16,
    u16s,
    u32,
    u64,
)
from zfuse.errors import CorruptionError, UnsupportedVersionError
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import (
    Availability,
    RepoInfo,
    RepoStatus,
    SnapshotInfo,
    Update,
    UpdateKind,
)

IDS = [bytes([n]) * 12 for n in range(5)]
SNAPSHOTS = [SnapshotId(raw) for raw in IDS]


def decode(**slots):
    return RepoInfo.decode(repo_info(**slots))


def test_smallest():
    info = SnapshotInfo(SnapshotId(ID), None, 7, "message", {})
    assert decode() == RepoInfo(
        spec_version=2,
        tags={},
        branches={"main": SnapshotId(ID)},
        deleted_tags=(),
        snapshots={SnapshotId(ID): info},
        status=RepoStatus(Availability.ONLINE, 5, None),
        metadata={},
        latest_updates=(),
        repo_before_updates=None,
        config=None,
        enabled_feature_flags=None,
        disabled_feature_flags=None,
    )


def test_everything_else():
    info = decode(
        s1=[{0: "v/1", 1: u32(1)}, {0: ""}],
        s3=["gone", ""],
        s4=[snapshot_info(IDS[0]), snapshot_info(IDS[1], 0)],
        s5={0: u8(1), 1: u64(9), 2: "why"},
        s6=[item("k", flexbuffer([1, "x"]))],
        s8="repo.1",
        s9=flexbuffer({"inline_chunk_threshold_bytes": 5}),
        s10=u16s(3, 99),
        s11=u16s(),
    )
    assert info.tags == {"v/1": SNAPSHOTS[1], "": SNAPSHOTS[0]}
    assert info.deleted_tags == ("gone", "")
    assert info.status == RepoStatus(Availability.READ_ONLY, 9, "why")
    assert info.metadata == {"k": [1, "x"]}
    assert info.repo_before_updates == "repo.1"
    assert info.config == {"inline_chunk_threshold_bytes": 5}
    assert info.enabled_feature_flags == (3, 99)
    assert info.disabled_feature_flags == ()


def test_snapshot():
    table = snapshot_info(
        IDS[1],
        0,
        s3="second",
        s4=[item("n", flexbuffer(1))],
        s5=structs(12, IDS[3], IDS[4]),
    )
    assert decode(s4=[snapshot_info(IDS[0]), table]).snapshots[SNAPSHOTS[1]] == SnapshotInfo(
        SNAPSHOTS[1], SNAPSHOTS[0], 7, "second", {"n": 1}, (SNAPSHOTS[3], SNAPSHOTS[4])
    )


def update(kind, body, **more):
    table = {0: u8(kind), 1: body, 2: u64(11)} | {int(k[1:]): v for k, v in more.items()}
    (decoded,) = decode(s7=[table]).latest_updates
    return decoded


SNAP = building.struct(IDS[1])
NEW = building.struct(IDS[2])
STATUS = {0: u8(2), 1: u64(8), 2: "off"}


@pytest.mark.parametrize(
    ("kind", "body", "details"),
    [
        (1, {}, {}),
        (2, {0: u8(1), 1: u8(2)}, {"from_version": 1, "to_version": 2}),
        (3, {}, {}),
        (4, {}, {}),
        (5, {0: "t"}, {"name": "t"}),
        (6, {0: "t", 1: SNAP}, {"name": "t", "previous_snap_id": SNAPSHOTS[1]}),
        (7, {0: "b"}, {"name": "b"}),
        (8, {0: "b", 1: SNAP}, {"name": "b", "previous_snap_id": SNAPSHOTS[1]}),
        (9, {0: "b", 1: SNAP}, {"name": "b", "previous_snap_id": SNAPSHOTS[1]}),
        (10, {0: "b", 1: SNAP}, {"branch": "b", "new_snap_id": SNAPSHOTS[1]}),
        (
            11,
            {0: "b", 1: SNAP, 2: NEW},
            {"branch": "b", "previous_snap_id": SNAPSHOTS[1], "new_snap_id": SNAPSHOTS[2]},
        ),
        (12, {0: SNAP}, {"new_snap_id": SNAPSHOTS[1]}),
        (13, {}, {}),
        (14, {}, {}),
        (15, {0: u16(4), 1: u8(1)}, {"id": 4, "new_value": True, "is_set": False}),
        (16, {0: STATUS}, {"status": RepoStatus(Availability.OFFLINE, 8, "off")}),
    ],
)
def test_updates(kind, body, details):
    assert update(kind, body) == Update(UpdateKind(kind), 11, None, details)
    for slot, value in body.items():
        if not isinstance(value, building.Scalar):
            without = {other: body[other] for other in body if other != slot}
            with pytest.raises(CorruptionError, match="required"):
                update(kind, without)


def test_every_kind_of_update_is_read():
    known = {kind for kind in UpdateKind if kind is not UpdateKind.UNKNOWN}
    assert known == set(range(1, 17))


def test_update_of_a_later_minor_version():
    assert update(17, {}, s3="backup") == Update(
        UpdateKind.UNKNOWN, 11, "backup", {"update_type": 17}
    )


def test_update_without_a_type():
    with pytest.raises(CorruptionError, match="no type"):
        update(0, {})
    with pytest.raises(CorruptionError, match="required"):
        decode(s7=[{0: u8(1)}])


@pytest.mark.parametrize("slot", [1, 2, 3, 4, 5, 7])
def test_required_fields(slot):
    with pytest.raises(CorruptionError, match="required"):
        decode(**{f"s{slot}": None})


@pytest.mark.parametrize("slot", [0, 3])
def test_required_fields_of_a_snapshot(slot):
    with pytest.raises(CorruptionError, match="required"):
        decode(s4=[snapshot_info(**{f"s{slot}": None})])


def test_ref_without_a_name():
    with pytest.raises(CorruptionError, match="required"):
        decode(s1=[{1: u32(0)}])


@pytest.mark.parametrize("index", [1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("slot", ["s1", "s2"])
def test_ref_to_no_snapshot(slot, index):
    with pytest.raises(CorruptionError, match="snapshot"):
        decode(**{slot: [{0: "x", 1: u32(index)}]})


def test_any_negative_parent_is_none():
    info = decode(s4=[snapshot_info(parent=-(2**31))])
    assert info.snapshots[SnapshotId(ID)].parent_id is None


@pytest.mark.parametrize("parent", [2, 2**31 - 1])
def test_parent_beyond_the_list(parent):
    with pytest.raises(CorruptionError, match="of 2"):
        decode(s4=[snapshot_info(IDS[0]), snapshot_info(IDS[1], parent)])


@pytest.mark.parametrize("parents", [[0], [1, 0], [-1, 2, 3, 1], [1, 2, 1, -1]])
def test_ancestry_in_circles(parents):
    tables = [snapshot_info(IDS[n], parent) for n, parent in enumerate(parents)]
    with pytest.raises(CorruptionError, match="ancestor"):
        decode(s4=tables)


def test_ancestry_in_any_order():
    parents = [3, 0, 1, -1, 3]
    info = decode(s4=[snapshot_info(IDS[n], parent) for n, parent in enumerate(parents)])
    assert [info.snapshots[each].parent_id for each in SNAPSHOTS] == [
        None if parent < 0 else SNAPSHOTS[parent] for parent in parents
    ]


def test_long_ancestry():
    tables = [snapshot_info(n.to_bytes(12), n - 1) for n in range(5000)]
    assert len(decode(s4=tables).snapshots) == 5000


def test_unknown_status():
    with pytest.raises(CorruptionError, match="unknown status 3"):
        decode(s5={0: u8(3)})


def test_damaged_config():
    with pytest.raises(CorruptionError):
        decode(s9=b"\xff\xff\xff")


@pytest.mark.parametrize("version", [3, 255])
def test_newer_version(version):
    with pytest.raises(UnsupportedVersionError, match="upgrade zfuse"):
        decode(version=version)
    with pytest.raises(UnsupportedVersionError, match="upgrade zfuse"):
        decode(s0=u8(version))


def test_version_1_has_no_such_file():
    with pytest.raises(CorruptionError, match="version 1"):
        decode(version=1)
