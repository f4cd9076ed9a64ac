import icechunk
import pytest

from tests.compat.place import local_place
from zfuse.errors import CorruptionError
from zfuse.format.config import RepositoryConfig, StoreConfig, VirtualChunkContainer
from zfuse.format.config_yaml import decode_yaml
from zfuse.format.repo_info import RepoInfo

S3 = {"region": "r", "endpoint_url": None, "anonymous": True}


def containers(*values):
    entries = {str(n): value for n, value in enumerate(values)}
    config = RepositoryConfig.from_values({"virtual_chunk_containers": entries})
    return list(config.virtual_chunk_containers.values())


def container(prefix, store, **more):
    return {"url_prefix": prefix, "store": store, "name": None} | more


def test_no_config():
    for config in (RepositoryConfig.from_values(None), RepositoryConfig.from_yaml(b"")):
        assert config == RepositoryConfig()
        assert config.inline_chunk_threshold_bytes == 512


@pytest.mark.parametrize(
    ("values", "level", "updates"),
    [
        (None, 3, 1000),
        ({"compression": None, "num_updates_per_repo_info_file": None}, 3, 1000),
        ({"compression": {"algorithm": "zstd", "level": 9}}, 9, 1000),
        ({"compression": {"level": 0}, "num_updates_per_repo_info_file": 0}, 3, 1),
        ({"compression": {"level": 255}, "num_updates_per_repo_info_file": 5}, 22, 5),
        ({"compression": {"level": True}, "num_updates_per_repo_info_file": "5"}, 3, 1000),
    ],
)
def test_how_files_are_written(values, level, updates):
    config = RepositoryConfig.from_values(values)
    assert config.compression_level == level
    assert config.num_updates_per_repo_info_file == updates


def test_part_of_a_config():
    values = {"inline_chunk_threshold_bytes": 77, "manifest": None, "of the future": {"x": 1}}
    config = RepositoryConfig.from_values(values)
    assert config == RepositoryConfig(77, {}, values)
    assert RepositoryConfig.from_values({"virtual_chunk_containers": None}).raw
    unset = RepositoryConfig.from_values({"inline_chunk_threshold_bytes": None})
    assert unset.inline_chunk_threshold_bytes == 512


@pytest.mark.parametrize(
    "values",
    [
        [],
        "text",
        5,
        {"inline_chunk_threshold_bytes": "many"},
        {"inline_chunk_threshold_bytes": -1},
        {"inline_chunk_threshold_bytes": True},
        {"virtual_chunk_containers": [1]},
    ],
)
def test_what_is_no_config(values):
    with pytest.raises(CorruptionError):
        RepositoryConfig.from_values(values)


@pytest.mark.parametrize(
    ("prefix", "kind", "options"),
    [
        ("s3://bucket/", "s3", S3),
        ("s3://bucket/deep/er/", "s3_compatible", S3),
        ("s3://bucket/", "tigris", S3),
        ("tigris://bucket/", "tigris", {}),
        ("gs://bucket/", "gcs", {}),
        ("gcs://bucket/", "gcs", {}),
        ("az://container/", "azure", {"account": "a"}),
        ("azure://container/", "azure", {"account": "a"}),
        ("abfs://container/", "azure", {"account": "a"}),
        ("http://host:80/", "http", {}),
        ("https://host/x/", "http", {}),
    ],
)
def test_stores(prefix, kind, options):
    (found,) = containers(container(prefix, {kind: options}, name="n"))
    assert found == VirtualChunkContainer(prefix, StoreConfig(kind, options), "n")


def test_local_store():
    (found,) = containers(container("file:///data/x/", {"local_file_system": "/data/x"}))
    assert found.store == StoreConfig("local_file_system", {"path": "/data/x"})


def test_store_without_options():
    (found,) = containers(container("gs://bucket/", {"gcs": None}))
    assert found.store == StoreConfig("gcs", {})


@pytest.mark.parametrize(
    "value",
    [
        None,
        "s3://bucket/",
        {},
        container(None, {"s3": S3}),
        container("s3://bucket", {"s3": S3}),
        container("s3:///x/", {"s3": S3}),
        container("bucket/", {"s3": S3}),
        container("gs://bucket/", {"s3": S3}),
        container("tigris://bucket/", {"s3": S3}),
        container("ftp://host/", {"http": {}}),
        container("abfss://container/", {"azure": {}}),
        container("file:///", {"local_file_system": "/"}),
        container("file:///data", {"local_file_system": "/data"}),
        container("file:///data/", {"local_file_system": None}),
        container("http://[x/", {"http": {}}),
        container("s3://bucket/", {"s3": S3, "gcs": {}}),
        container("s3://bucket/", "s3"),
        container("s3://bucket/", {"s3": 5}),
        container("s4://bucket/", {"s4": {}}),
        container("s3://bucket/", {"s3": S3}, name=""),
        container("s3://bucket/", {"s3": S3}, name="a/b"),
        container("s3://bucket/", {"s3": S3}, name=5),
    ],
)
def test_invalid_containers_are_left_out(value):
    good = container("s3://good/", {"s3": S3})
    assert [each.url_prefix for each in containers(value, good)] == ["s3://good/"]


def _official_config():
    config = icechunk.RepositoryConfig.default()
    config.inline_chunk_threshold_bytes = 77
    config.compression = icechunk.CompressionConfig(level=5)
    stores = {
        "s3://bucket/": icechunk.s3_store(
            region="us-east-1", endpoint_url="http://x", anonymous=True
        ),
        "gs://bucket/": icechunk.gcs_store(),
        "http://host/": icechunk.http_store(),
        "file:///data/v/": icechunk.local_filesystem_store("/data/v/"),
        "az://container/": icechunk.storage.azure_store(account="account"),
    }
    for prefix, store in stores.items():
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    when, along = icechunk.ManifestSplitCondition, icechunk.ManifestSplitDimCondition
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {
            when.or_conditions(
                [
                    when.name_matches("a"),
                    when.and_conditions([when.path_matches("no"), when.AnyArray()]),
                ]
            ): {along.DimensionName("12:30"): 3, along.Axis(1): 2, along.Any(): 7}
        }
    )
    load = icechunk.ManifestPreloadCondition
    preload = icechunk.ManifestPreloadConfig(
        max_total_refs=5, preload_if=load.or_conditions([load.num_refs(1, 10), load.true()])
    )
    config.manifest = icechunk.ManifestConfig(splitting=splitting, preload=preload)
    return config


@pytest.mark.compat
def test_both_versions_of_an_official_config(tmp_path):
    found = []
    for spec in (1, 2):
        place = local_place(tmp_path, f"spec{spec}")
        icechunk.Repository.create(place.storage, _official_config(), spec_version=spec)
        if spec == 1:
            yaml = (tmp_path / "spec1" / "config.yaml").read_bytes()
            assert b"!s3" in yaml
            found.append(RepositoryConfig.from_yaml(yaml))
        else:
            info = RepoInfo.decode((tmp_path / "spec2" / "repo").read_bytes())
            found.append(RepositoryConfig.from_values(info.config))
    assert found[0] == found[1]
    config = found[0]
    assert config.inline_chunk_threshold_bytes == 77
    assert {p: each.store.kind for p, each in config.virtual_chunk_containers.items()} == {
        "s3://bucket/": "s3",
        "gs://bucket/": "gcs",
        "http://host/": "http",
        "file:///data/v/": "local_file_system",
        "az://container/": "azure",
    }
    s3 = config.virtual_chunk_containers["s3://bucket/"].store.options
    assert (s3["region"], s3["endpoint_url"], s3["anonymous"]) == ("us-east-1", "http://x", True)
    assert config.virtual_chunk_containers["az://container/"].store.options == {
        "account": "account"
    }
    manifest = config.raw["manifest"]
    assert manifest["preload"]["preload_if"] == {
        "or": [{"num_refs": {"from": {"Included": 1}, "to": {"Excluded": 10}}}, "true"]
    }
    ((condition, dimensions),) = manifest["splitting"]["split_sizes"]
    assert condition == {
        "or": [
            {"name_matches": {"regex": "a"}},
            {"and": [{"path_matches": {"regex": "no"}}, "any_array"]},
        ]
    }
    assert dimensions == [
        {"condition": {"DimensionName": "12:30"}, "num_chunks": 3},
        {"condition": {"Axis": 1}, "num_chunks": 2},
        {"condition": "Any", "num_chunks": 7},
    ]


def test_tags_of_yaml():
    text = b"a: !x {b: 1}\nc: !y [1, null]\nd: !z 5\ne: !z '5'\nf: !z\ng: !z /some/dir"
    assert decode_yaml(text) == {
        "a": {"x": {"b": 1}},
        "c": {"y": [1, None]},
        "d": {"z": 5},
        "e": {"z": "5"},
        "f": {"z": None},
        "g": {"z": "/some/dir"},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("<<", "<<"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("08", 8),
        ("-5", -5),
        ("0o17", 15),
        ("0xff", 255),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        (".nan", None),
        ("-.inf", None),
        ("'no'", "no"),
        ("'5'", "5"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = decode_yaml(f"k: {text}".encode())
    assert found == {"k": value}
    assert type(found["k"]) is type(value)


@pytest.mark.parametrize(
    "data",
    [
        b"[",
        b"a: b: c",
        b"\xff\xfe\x00",
        b"k: \xff",
        b"k: \0",
        b"&a [*a]",
        b"a: &x [1, 1]\nb: &y [*x, *x]\nc: [*y, *y]",
        b"a: !!python/object/apply:os.getcwd []",
        b"!!binary eA==",
        b"? [1]\n: 2",
        b"1: 2",
        b"k: " + b"9" * 5000,
        b"--- 1\n--- 2",
        b"[" * 1000,
        b"[" * 1000 + b"]" * 1000,
        b"- " * 5000 + b"x",
        b"{a: " * 300 + b"1" + b"}" * 300,
        b"#" * 300_000,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_damaged_yaml(data):
    with pytest.raises(CorruptionError) as caught:
        decode_yaml(data)
    assert "\n" not in str(caught.value)


def test_yaml_of_something_else():
    with pytest.raises(CorruptionError):
        RepositoryConfig.from_yaml(b"- 1\n- 2")
