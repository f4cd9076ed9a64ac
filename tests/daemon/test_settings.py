from datetime import UTC, datetime
from pathlib import Path

import pytest

from zfuse.daemon.settings import (
    chosen_ref,
    layer_from_environment,
    layer_from_mount_options,
    layer_from_toml,
    merge,
    mount_file,
    mount_settings,
    storage_options,
)
from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.repo.ref import Ref, RefKind
from zfuse.repo.virtual import AllowedPrefix
from zfuse.storage.options import StorageOptions

TYPED = """
endpoint-url = "http://127.0.0.1:9000"
region = "eu-central-1"
force-path-style = true
allow-virtual = ["s3://a/=anonymous", "file:///data/"]
follow = 5
memory = "1GiB"
deadline = 2.5
allow-other = true
uid = 1000
gid = 1001
umask = "027"
log-level = "debug"
as-of = 2026-08-20T09:00:00Z
"""
AS_OPTIONS = (
    "endpoint_url=http://127.0.0.1:9000,region=eu-central-1,force_path_style,"
    "allow_virtual=s3://a/=anonymous,allow_virtual=file:///data/,follow=5,memory=1GiB,"
    "deadline=2.5,allow_other,uid=1000,gid=1001,umask=027,log_level=debug,"
    "as_of=2026-08-20T09:00:00+00:00"
)


@pytest.fixture
def toml(tmp_path):
    def write(text, name="config.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_setting_means_the_same_in_every_place(toml):
    from_toml = mount_settings("r", layer_from_toml(toml(TYPED)))
    assert from_toml.storage == StorageOptions(
        endpoint_url="http://127.0.0.1:9000",
        region="eu-central-1",
        force_path_style=True,
        deadline_s=2.5,
    )
    assert from_toml.allow_virtual == (
        AllowedPrefix("s3://a/", "anonymous"),
        AllowedPrefix("file:///data/"),
    )
    assert (from_toml.follow_s, from_toml.memory_bytes, from_toml.deadline_s) == (5, 1 << 30, 2.5)
    assert (from_toml.uid, from_toml.gid, from_toml.umask) == (1000, 1001, 0o027)
    assert from_toml.allow_other
    assert from_toml.log_level == "debug"
    assert from_toml.ref == Ref(RefKind.TIME, "2026-08-20T09:00:00+00:00")

    assert mount_settings("r", layer_from_mount_options([AS_OPTIONS])) == from_toml

    environment = {
        f"ZFUSE_{name.upper().replace('-', '_')}": " ".join(v) if isinstance(v, list) else str(v)
        for name, v in layer_from_toml(toml(TYPED)).items()
    } | {"ZFUSE_AS_OF": "2026-08-20T09:00:00+00:00"}
    assert mount_settings("r", layer_from_environment(environment)) == from_toml


def test_the_more_specific_place_wins():
    flags, environment, file = {"region": "a"}, {"region": "b", "memory": "2M"}, {"memory": "3M"}
    merged = merge([flags, environment, file])
    assert merged == {"region": "a", "memory": "2M"}


def test_a_chosen_ref_hides_every_ref_of_lower_layers():
    assert merge([{"tag": "v1"}, {"branch": "main", "region": "r"}]) == {
        "tag": "v1",
        "region": "r",
    }


@pytest.mark.parametrize(
    ("layer", "ref"),
    [
        ({}, None),
        ({"branch": "b"}, Ref(RefKind.BRANCH, "b")),
        ({"tag": "t"}, Ref(RefKind.TAG, "t")),
        ({"snapshot": "1CECHNKREP0F1RSTCMT0"}, Ref(RefKind.SNAPSHOT, "1CECHNKREP0F1RSTCMT0")),
        ({"as-of": "2026-01-02"}, Ref(RefKind.TIME, "2026-01-02")),
        (
            {"as-of": datetime(2026, 1, 2, tzinfo=UTC)},
            Ref(RefKind.TIME, "2026-01-02T00:00:00+00:00"),
        ),
    ],
)
def test_chosen_ref(layer, ref):
    assert chosen_ref(layer) == ref


def test_two_refs_at_once_are_refused():
    with pytest.raises(InvalidInputError, match="--branch and --tag: give only one"):
        mount_settings("r", {"branch": "b", "tag": "t"})


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"memory": "lots"}, "memory: 'lots' must be a size"),
        ({"memory": "1k"}, "at least 1MiB"),
        ({"memory": True}, "must be a size"),
        ({"memory": "1e999"}, "must be a size"),
        ({"deadline": "0"}, "seconds above 0"),
        ({"deadline": "nan"}, "seconds above 0"),
        ({"follow": True}, "seconds above 0"),
        ({"uid": "-1"}, "must be a number"),
        ({"uid": "me"}, "must be a number"),
        ({"umask": "999"}, "octal mode"),
        ({"umask": 22}, "octal mode in quotes"),
        ({"allow-other": "maybe"}, "true or false"),
        ({"log-level": "loud"}, "one of debug, info"),
        ({"region": ""}, "text that is not empty"),
        ({"region": 7}, "text that is not empty"),
        ({"as-of": "soon"}, "not a time"),
        ({"allow-virtual": ["nonsense"]}, "not a URL prefix"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_should_be(layer, says):
    with pytest.raises(InvalidInputError, match=says):
        mount_settings("r", layer)


@pytest.mark.parametrize(
    ("text", "size"),
    [("268435456", 1 << 28), ("256MiB", 1 << 28), ("256M", 1 << 28), ("1.5 g", 3 << 29)],
)
def test_sizes(text, size):
    assert mount_settings("r", {"memory": text}).memory_bytes == size


def test_writing_takes_a_word():
    assert not mount_settings("r", {}).rw
    settings = mount_settings("r", layer_from_mount_options(["rw,journal=/var/lib/sessions"]))
    assert settings.rw
    assert settings.journal == Path("/var/lib/sessions")
    # What mount(8) lets through: it makes rw of rw=true, and of no word at all.
    assert layer_from_mount_options(["writable,_netdev"]) == {"rw": True}
    for options in ("ro", "ro,writable", "writable,ro"):
        assert layer_from_mount_options([options]) == {"rw": False}


def test_an_unknown_key_is_an_error_with_the_nearest_known_one(toml):
    with pytest.raises(InvalidInputError, match=r"'endpoint-ulr'; did you mean 'endpoint-url'"):
        layer_from_toml(toml("endpoint-ulr = 'x'"))
    with pytest.raises(InvalidInputError, match=r"-o: unknown setting 'alow_other'.*'allow-other'"):
        layer_from_mount_options(["alow_other"])
    with pytest.raises(InvalidInputError, match="known are"):
        layer_from_toml(toml("zzz = 1"))


def test_repository_and_mountpoint_belong_in_a_mount_file_only(toml):
    with pytest.raises(InvalidInputError, match="unknown setting 'repository'"):
        layer_from_toml(toml("repository = '/r'"))


def test_a_file_that_is_not_there_says_nothing(tmp_path):
    assert layer_from_toml(tmp_path / "none.toml") == {}


def test_a_file_that_is_not_toml_is_named(toml):
    with pytest.raises(InvalidInputError, match=r"config\.toml"):
        layer_from_toml(toml("region ="))


def test_a_mount_file_names_repository_and_mountpoint(toml, tmp_path):
    toml('repository = "s3://b/p"\nmountpoint = "/mnt/x"\nregion = "r"\n', "data.toml")
    layer = mount_file("data", tmp_path)
    assert (layer["repository"], layer["mountpoint"]) == ("s3://b/p", "/mnt/x")
    assert storage_options(layer).region == "r"

    toml('repository = "s3://b/p"\n', "half.toml")
    with pytest.raises(InvalidInputError, match="needs a line mountpoint"):
        mount_file("half", tmp_path)
    with pytest.raises(NotFoundError, match=r"other\.toml"):
        mount_file("other", tmp_path)


def test_words_of_mount_8_are_ignored():
    options = "noauto,nofail,_netdev,x-systemd.automount,x-gvfs-show,comment=mine,nosuid"
    assert layer_from_mount_options([options]) == {}


@pytest.mark.parametrize("variable", ["ZFUSE_MEMROY", "ZFUSE_ENDPOINT_ULR", "ZFUSE_ALLOW_VIRTUALS"])
def test_a_misspelt_variable_names_the_right_one(variable):
    with pytest.raises(InvalidInputError, match=rf"{variable}: .*did you mean 'ZFUSE_"):
        layer_from_environment({variable: "1"})


def test_variables_of_others_are_left_alone():
    others = ("DEBUG", "VENV", "PYTHON", "TEST_LIMIT", "SERVICE_HOST", "PORT_80_TCP_ADDR")
    environment = {f"ZFUSE_{name}": "1" for name in others}
    assert layer_from_environment({**environment, "ZFUSE_TAG": "v1"}) == {"tag": "v1"}


@pytest.mark.parametrize("option", ["branch", "memory", "allow_virtual"])
def test_an_option_without_its_value_says_how_to_give_one(option):
    with pytest.raises(InvalidInputError, match=rf"-o {option}: .* write -o {option}=\.\.\."):
        layer_from_mount_options([f"noatime,{option}"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('memory = "much"', "must be a size"),
        ("tag = 7", "must be a text"),
        ('tag = "a"\nbranch = "b"', "give only one"),
        ('allow-virtual = ["file:///x/=anonymus"]', "did you mean =anonymous"),
    ],
)
def test_a_bad_value_names_its_file(toml, text, why):
    path = toml(text)
    with pytest.raises(InvalidInputError, match=why) as caught:
        layer_from_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
