import pytest

from zfuse.daemon.mount_point import (
    allows_others,
    check_fuse,
    check_journal,
    check_mount_point,
)
from zfuse.errors import InvalidInputError


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "repo").mkdir()
    return str(tmp_path / "repo")


def test_an_empty_directory_is_fine(tmp_path, repository):
    (tmp_path / "mnt").mkdir()
    check_mount_point(tmp_path / "mnt", repository)
    check_mount_point(tmp_path / "mnt", "s3://bucket/prefix")


def test_a_missing_directory(tmp_path, repository):
    with pytest.raises(InvalidInputError, match="mkdir -p"):
        check_mount_point(tmp_path / "mnt", repository)


def test_a_file(tmp_path, repository):
    (tmp_path / "mnt").touch()
    with pytest.raises(InvalidInputError, match="not a directory"):
        check_mount_point(tmp_path / "mnt", repository)
    with pytest.raises(InvalidInputError, match="Not a directory"):
        check_mount_point(tmp_path / "mnt" / "below", repository)


def test_a_directory_in_use(tmp_path, repository):
    (tmp_path / "mnt" / "notes").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match=r"not empty.*'notes'"):
        check_mount_point(tmp_path / "mnt", repository)


@pytest.mark.parametrize("below", ["", "chunks"])
@pytest.mark.parametrize("url", ["{}", "file://{}"])
def test_inside_the_repository(tmp_path, repository, below, url):
    (tmp_path / "repo" / "chunks").mkdir()
    with pytest.raises(InvalidInputError, match="inside the repository"):
        check_mount_point(tmp_path / "repo" / below, url.format(repository))


def test_around_the_repository_and_through_a_link(tmp_path, repository):
    with pytest.raises(InvalidInputError, match="would hide"):
        check_mount_point(tmp_path, repository)
    (tmp_path / "link").symlink_to(tmp_path / "repo")
    with pytest.raises(InvalidInputError, match="inside the repository"):
        check_mount_point(tmp_path / "link", repository)


@pytest.mark.parametrize("below", ["", "journal"])
def test_a_journal_is_neither_in_the_mount_nor_in_the_repository(tmp_path, repository, below):
    mountpoint, url = tmp_path / "mnt", f"file://{repository}"
    (tmp_path / "link").symlink_to(tmp_path)
    for around in (tmp_path, tmp_path / "link"):
        with pytest.raises(InvalidInputError, match=r"inside the mount.*--journal"):
            check_journal(around / "mnt" / below, mountpoint, url)
        with pytest.raises(InvalidInputError, match=r"inside the repository.*--journal"):
            check_journal(around / "repo" / below, mountpoint, url)
    check_journal(tmp_path / "mnt2" / below, mountpoint, url)
    check_journal(tmp_path, mountpoint, url)


def test_no_fuse_device(tmp_path):
    with pytest.raises(InvalidInputError, match="modprobe fuse"):
        check_fuse(allow_other=False, device=tmp_path / "fuse")


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("user_allow_other\n", True), ("#user_allow_other\n", False), ("", False)],
)
def test_allow_other_is_what_fuse_conf_says(tmp_path, text, allowed):
    (tmp_path / "fuse.conf").write_text(text)
    assert allows_others(tmp_path / "fuse.conf") is allowed
    assert not allows_others(tmp_path / "none")
