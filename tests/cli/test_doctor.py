import pytest

from tests.cli.outcome import Outcome


def findings(outcome: Outcome):
    return {row["check"]: row for row in outcome.json_lines}


def test_a_sound_machine_has_nothing_bad(zfuse, repository):
    outcome = zfuse("doctor", repository, "--json")
    found = findings(outcome)
    assert outcome.status == 0, [row for row in found.values() if row["state"] == "bad"]
    assert found["/dev/fuse"]["state"] == "ok"
    assert "fusermount3" in found["fusermount3"]["found"]
    assert "pyfuse3" in found["packages"]["found"]
    assert f"{repository}: spec 2, 2 branches, 1 tags" in found["repository"]["found"]
    assert found["S3 credentials"]["state"] == "note"
    text = zfuse("doctor").out.splitlines()
    assert len(text) == len(found) - 1
    assert all(line.startswith(("ok  ", "note")) for line in text)


def test_credentials_are_seen_without_being_shown(zfuse):
    env = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalr/verysecret"}
    outcome = zfuse("doctor", "--json", env=env)
    assert findings(outcome)["S3 credentials"]["found"].startswith("from env")
    assert "wJalr" not in outcome.out
    assert "AKIDEXAMPLE" not in outcome.out


@pytest.mark.parametrize(
    ("repo", "status", "words"),
    [("/nowhere", 10, "no Icechunk repository"), ("ftp://x/y", 2, "unknown scheme")],
)
def test_a_repository_that_cannot_be_read_decides_the_exit_code(zfuse, repo, status, words):
    outcome = zfuse("doctor", repo, "--json")
    assert outcome.status == status
    assert words in findings(outcome)["repository"]["found"]
    assert findings(outcome)["repository"]["advice"]


def test_bad_settings_files_are_found(zfuse, tmp_path):
    (tmp_path / "zfuse").mkdir()
    (tmp_path / "zfuse" / "config.toml").write_text("memroy = 1\n")
    outcome = zfuse("doctor", "--json", env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert outcome.status == 2
    assert "did you mean 'memory'" in findings(outcome)["settings files"]["found"]
    assert "mounts" in findings(outcome)
    text = zfuse("doctor", "/nowhere", env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert (text.status, text.err) == (2, "")
    assert "did you mean 'memory'" in text.out


def test_a_misspelt_variable_is_found(zfuse):
    outcome = zfuse("doctor", "--json", env={"ZFUSE_MEMROY": "1GiB"})
    assert outcome.status == 2
    assert "'ZFUSE_MEMORY'" in findings(outcome)["settings files"]["found"]


def test_a_mount_is_examined_by_its_repository(zfuse, mount, repository):
    found = findings(zfuse("doctor", mount, "--json"))["repository"]
    assert found["state"] == "ok"
    assert f"{mount} is in a mount of {repository}: spec 2" in found["found"]


def test_missing_tools_come_with_the_package_to_install(zfuse, tmp_path):
    outcome = zfuse("doctor", "--json", env={"PATH": str(tmp_path)})
    finding = findings(outcome)["fusermount3"]
    assert (finding["state"], finding["advice"]) == ("bad", "install the package fuse3")
    assert outcome.status == 2
