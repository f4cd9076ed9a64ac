"""zfuse config: the settings of a repository, zfuse's own, and where they come from."""

import icechunk
import pytest

from tests.cli.working import command, make_repository
from zfuse.format.config_settings import SETTINGS

__all__ = ["command"]  # a fixture


@pytest.fixture(params=[1, 2])
def repo(request, tmp_path):
    return make_repository(tmp_path, request.param)


@pytest.fixture
def repo_2(tmp_path):
    return make_repository(tmp_path, 2)


def official(repo):
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(repo)))


def shown(command, repo, *more):
    return command("config", "show", repo, *more, "--json").json


def test_settings_are_set_shown_and_unset(command, repo):
    settings = {
        "inline_chunk_threshold_bytes": ("1024", 1024),
        "compression.level": ("5", 5),
        "storage.storage_class": ("123", "123"),
        "storage.unsafe_use_metadata": ("false", False),
        "manifest.preload.preload_if": ("true", "true"),
        "manifest.splitting.split_sizes": (
            '[["any_array", [{"condition": "Any", "num_chunks": 9}]]]',
            [["any_array", [{"condition": "Any", "num_chunks": 9}]]],
        ),
    }
    for key, (text, value) in settings.items():
        told = command("config", "set", repo, key, text, "--json").json
        assert told == {"key": key, "value": value, "origin": "repository"}
    config = official(repo).config
    assert (config.inline_chunk_threshold_bytes, config.compression.level) == (1024, 5)
    assert config.storage.storage_class == "123"
    assert str(config.manifest.splitting).count("9") == 1
    found = shown(command, repo)["repository_settings"]
    assert list(found) == list(SETTINGS)
    changed = {k: each["value"] for k, each in found.items() if each["origin"] == "repository"}
    assert changed == {key: value for key, (_, value) in settings.items()}
    assert found["caching.num_chunk_refs"] == {"value": 15_000_000, "origin": "default"}
    command("config", "show", repo).says("storage.storage_class", "123")
    for key in settings:
        told = command("config", "unset", repo, key, "--json").json
        assert told == {"key": key, "value": SETTINGS[key].default, "origin": "default"}
    assert official(repo).config.inline_chunk_threshold_bytes is None


def test_wrong_settings_are_told_what_is_right(command, repo):
    for arguments, words in {
        ("set", repo, "compression.levle", "5"): "did you mean compression.level?",
        ("set", repo, "compression.level", "high"): "a whole number from 0 to 255",
        ("set", repo, "compression.level", "null"): "a whole number",
        ("set", repo, "manifest.preload.preload_if", "maybe"): "name_matches",
        ("set", repo, "virtual_chunk_containers", "{}"): "zfuse container add",
        ("set", "compression.level"): "write zfuse config set",
        ("unset", repo, "compresion.level"): "did you mean compression.level?",
        ("flag", repo, "fly", "allow"): "there are move_node, create_tag, delete_tag",
        ("flag", repo, "move_node", "yes"): "allow, forbid or default",
        ("metadata", repo, "--set", "a"): "write KEY=VALUE",
        ("read-only", repo, "--off", "--reason", "x"): "without --reason",
    }.items():
        command("config", *arguments).fails(2, words)
    found = shown(command, repo)["repository_settings"]
    assert {each["origin"] for each in found.values()} == {"default"}


def test_own_settings_say_where_they_come_from(command, repo_2, home, tmp_path, monkeypatch):
    user = tmp_path / "home" / ".config" / "zfuse"
    user.mkdir(parents=True)
    (user / "config.toml").write_text('memory = "1MiB"\nregion = "file"\ndeadline = 5\n')
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("ZFUSE_REGION", "environment")
    monkeypatch.setenv("ZFUSE_PROFILE", "environment")
    monkeypatch.setenv("ZFUSE_TAG", "v1")
    flags = ("--profile", "flag", "--allow-virtual", "s3://b/=anonymous")
    found = shown(command, repo_2, *flags)["zfuse_settings"]
    told = {name: (each["value"], each["origin"]) for name, each in found.items()}
    assert {name: each for name, each in told.items() if each[1] != "default"} == {
        "memory": (1 << 20, "user file"),
        "deadline": (5.0, "user file"),
        "region": ("environment", "environment"),
        "tag": ("v1", "environment"),
        "profile": ("flag", "flag"),
        "allow_virtual": (["s3://b/=anonymous"], "flag"),
    }
    assert told["log_level"] == ("info", "default")
    assert "user file" not in command("config", "show", repo_2).out
    command("config", "show", repo_2, "--origin").says("user file", "repository", "environment")


def test_outside_of_repositories_there_are_own_settings_only(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = command("config", "show", "--json").json
    assert told["repository"] is None
    assert told["zfuse_settings"]["memory"] == {"value": 256 << 20, "origin": "default"}
    monkeypatch.setenv("ZFUSE_MEMORY", "much")
    command("config", "show").fails(2, "such as 256MiB")
    command("config", "set", "compression.level", "5").fails(6, "name the repository")


def test_what_else_a_repository_says_of_itself(command, repo_2):
    command("config", "read-only", repo_2, "--reason", "moving").says("read-only now")
    assert official(repo_2).status.limited_availability_reason == "moving"
    command("config", "set", repo_2, "compression.level", "5").fails(2, "read-only: moving")
    command("config", "show", repo_2).says("read_only: moving")
    told = command("config", "read-only", repo_2, "--off", "--json").json
    assert told == {"availability": "online", "availability_reason": None}
    command("config", "flag", repo_2, "create_tag", "forbid").says("create_tag: forbid")
    command("tag", "create", repo_2, "v2").fails(2, "forbids")
    flags = shown(command, repo_2)["feature_flags"]
    assert flags["create_tag"] == {"value": False, "origin": "repository"}
    assert flags["delete_tag"] == {"value": True, "origin": "default"}
    assert (
        command("config", "flag", repo_2, "create_tag", "default", "--json").json["value"] is None
    )
    given = ("--set", "owner=ocean", "--set", "years=[1, 2]")
    assert command("config", "metadata", repo_2, *given, "--json").json == {
        "metadata": {"owner": "ocean", "years": [1, 2]}
    }
    command("config", "metadata", repo_2, "--unset", "owner").says("years", "[1, 2]")
    command("config", "metadata", repo_2, "--unset", "owner").fails(2, "no 'owner'")
    assert official(repo_2).metadata == {"years": [1, 2]}
    assert shown(command, repo_2)["metadata"] == {"years": [1, 2]}


def test_version_1_has_settings_and_nothing_else(command, tmp_path):
    repo = make_repository(tmp_path, 1)
    for arguments in (("read-only", repo), ("flag", repo, "move_node", "forbid")):
        command("config", *arguments).fails(2, "version 1", "zfuse upgrade")
    command("config", "metadata", repo, "--set", "a=1").fails(2, "zfuse upgrade")
    command("ops-log", repo).fails(2, "zfuse log --graph")
    assert shown(command, repo)["availability"] == "online"
