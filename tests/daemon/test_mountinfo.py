from pathlib import Path

import pytest

from zfuse.daemon.mountinfo import MountPoint, find_mount, innermost, names_inside, parse_mountinfo
from zfuse.errors import NotMountedError

LINES = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 0:57 / /mnt/a\\040b ro,nosuid - fuse.zfuse s3://bucket/a\\040b ro,user_id=1000,group_id=1000
41 40 0:58 / /mnt/a\\040b/inner ro - fuse.zfuse /data/repo rw,user_id=0,group_id=0
broken line
"""


def test_reads_names_with_spaces_and_owners():
    root, outer, inner = parse_mountinfo(LINES)
    assert (root.fstype, root.user_id) == ("ext4", None)
    assert outer.path == Path("/mnt/a b")
    assert (outer.device, outer.source, outer.fstype) == ("0:57", "s3://bucket/a b", "fuse.zfuse")
    assert (outer.user_id, inner.user_id) == (1000, 0)
    assert outer.device_number == 57


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/mnt/a b/branch/main", "/mnt/a b"),
        ("/mnt/a b/inner/x", "/mnt/a b/inner"),
        ("/mnt/a b", "/mnt/a b"),
        ("/mnt/a bc", "/"),
    ],
)
def test_the_innermost_mount_holds_a_path(path, found):
    mount = innermost(Path(path), parse_mountinfo(LINES))
    assert mount.path == Path(found)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("mnt", ()),
        ("mnt/tag/v1", ("tag", "v1")),
        ("mnt/../mnt/tag/v1", ("tag", "v1")),
        ("other/../mnt/tag/v1/", ("tag", "v1")),
        ("whole/tag/v1", ("tag", "v1")),
        ("part", ("tag", "v1")),
        ("part/a", ("tag", "v1", "a")),
    ],
)
def test_names_inside_of_a_mount_are_found_however_the_path_is_spelled(
    path, names, tmp_path, monkeypatch
):
    """Through links to the mount and into it, absolute and relative."""
    (tmp_path / "mnt" / "tag" / "v1" / "a").mkdir(parents=True)
    (tmp_path / "whole").symlink_to("mnt")
    (tmp_path / "part").symlink_to(tmp_path / "mnt" / "tag" / "v1")
    mount = MountPoint(tmp_path / "mnt", "0:57", "repo", "fuse.zfuse", 0)
    monkeypatch.chdir(tmp_path)
    assert names_inside(Path(path), mount) == names_inside(tmp_path / path, mount) == names


def test_a_path_outside_every_mount_is_an_error(tmp_path):
    with pytest.raises(NotMountedError, match="zfuse list"):
        find_mount(tmp_path)
