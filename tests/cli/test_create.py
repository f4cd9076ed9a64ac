import icechunk
import pytest


@pytest.mark.parametrize("version", [1, 2])
def test_makes_a_repository_that_the_official_library_opens(zfuse, tmp_path, version):
    made = zfuse("create", tmp_path / "repo", "--spec-version", version, "--json").json
    assert made == {
        "repository": str(tmp_path / "repo"),
        "spec_version": version,
        "branch": "main",
    }
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    assert (repo.spec_version, repo.list_branches()) == (version, {"main"})


def test_refuses_what_is_there(zfuse, tmp_path):
    assert zfuse("create", tmp_path / "repo").status == 0
    zfuse("create", tmp_path / "repo").fails(2, "there is a repository at", "choose another")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    zfuse("create", tmp_path / "full").fails(2, "not empty (notes)")
    zfuse("create", tmp_path / "other", "--spec-version", "3").fails(2, "spec-version")


@pytest.mark.parametrize("place", ["{tmp}/file", "{tmp}/file/below", "/proc/repo"])
def test_a_place_that_never_works_is_no_passing_failure(zfuse, tmp_path, place):
    (tmp_path / "file").touch()
    zfuse("create", place.format(tmp=tmp_path)).fails(2, "cannot make", "choose a directory")


def test_a_bucket_has_to_be_there(zfuse, s3_server):
    outcome = zfuse("create", "s3://no-such-bucket/repo", env=s3_server.environment())
    outcome.fails(2, "no bucket no-such-bucket", "make the bucket")
