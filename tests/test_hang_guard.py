from pathlib import Path

from tests.hang_guard import mounts_below


def test_finds_the_zfuse_mounts_of_the_run_and_no_others(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "40 22 0:57 / /tmp/run/t/a ro - fuse.zfuse /data ro,user_id=0\n"
        "41 22 0:58 / /tmp/run2/a ro - fuse.zfuse /data ro,user_id=0\n"
        "42 22 0:59 / /tmp/run/b ro - fuse.sshfs host ro,user_id=0\n"
        "43 22 0:60 / /tmp/run ro - ext4 /dev/vda rw\n"
    )
    assert mounts_below("/tmp/run", mountinfo) == [Path("/sys/fs/fuse/connections/57")]
