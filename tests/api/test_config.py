"""Settings, stores and credentials: what one library stores the other reads."""

import copy
import datetime as dt

import icechunk
import pytest

import zfuse

icechunk.set_logs_filter("off")
pytestmark = pytest.mark.compat


def everything(ic):
    """Return settings of which none has its default."""
    split, dim, preload = (
        ic.ManifestSplitCondition,
        ic.ManifestSplitDimCondition,
        ic.ManifestPreloadCondition,
    )
    config = ic.RepositoryConfig(
        inline_chunk_threshold_bytes=11,
        get_partial_values_concurrency=12,
        compression=ic.CompressionConfig(ic.CompressionAlgorithm.Zstd, 5),
        max_concurrent_requests=13,
        caching=ic.CachingConfig(1, 2, 3, 4, 5),
        storage=ic.StorageSettings(
            concurrency=ic.StorageConcurrencySettings(6, 7),
            retries=ic.StorageRetriesSettings(8, 9, 10),
            storage_class="A",
            metadata_storage_class="B",
            chunks_storage_class="C",
            minimum_size_for_multipart_upload=14,
            timeouts=ic.StorageTimeoutSettings(15, 16, 17, 18),
        ),
        manifest=ic.ManifestConfig(
            preload=ic.ManifestPreloadConfig(
                19,
                preload.or_conditions(
                    [
                        preload.and_conditions(
                            [preload.path_matches("^/a"), preload.name_matches("t")]
                        ),
                        preload.num_refs(1, 10),
                        preload.num_refs(None, 5),
                        preload.true(),
                        preload.false(),
                    ]
                ),
                20,
            ),
            splitting=ic.ManifestSplittingConfig.from_dict(
                {
                    split.or_conditions(
                        [split.name_matches("x"), split.path_matches("/y") & split.AnyArray()]
                    ): {dim.Axis(1): 3, dim.DimensionName("time"): 4, dim.Any(): 5},
                    split.AnyArray(): {dim.Any(): 6},
                }
            ),
            virtual_chunk_location_compression=ic.ManifestVirtualChunkLocationCompressionConfig(
                21,
                dictionary_max_training_samples=22,
                dictionary_max_size_bytes=2300,
                compression_level=4,
            ),
            max_concurrent_manifest_fetches_during_commit=24,
        ),
        num_updates_per_repo_info_file=25,
        max_concurrent_decodes=26,
    )
    for container in (
        ic.VirtualChunkContainer(
            "s3://bucket/prefix/",
            ic.s3_store(
                region="r",
                endpoint_url="http://e",
                allow_http=True,
                anonymous=True,
                force_path_style=True,
                network_stream_timeout_seconds=7,
                requester_pays=True,
                checksum_algorithm=ic.ChecksumAlgorithm.Crc64Nvme,
            ),
            "named",
        ),
        ic.VirtualChunkContainer("s3://other/", ic.s3_store(s3_compatible=True)),
        ic.VirtualChunkContainer("file:///data/", ic.local_filesystem_store("/data")),
        ic.VirtualChunkContainer("https://host/data/", ic.http_store()),
        ic.VirtualChunkContainer("gs://bucket/", ic.gcs_store()),
    ):
        config.set_virtual_chunk_container(container)
    return config


def told(value):
    """Return all that settings tell, as plain values."""
    if value is None or isinstance(value, int | str | float):
        return value
    if isinstance(value, dict):
        return {key: told(each) for key, each in sorted(value.items())}
    kind = type(value).__name__
    if kind == "CompressionAlgorithm":
        return str(value)
    if kind == "ManifestSplittingConfig":
        return str(value.to_dict()).replace("icechunk.config.", "")
    if kind == "VirtualChunkContainer":
        return value.url_prefix, value.name, type(value.store).__name__
    names = [n for n in dir(value) if not n.startswith("_") and n != "previous_file"]
    found = {n: getattr(value, n) for n in names if not callable(getattr(value, n))}
    if "preload_if" in found:
        found["preload_if"] = str(found["preload_if"]).replace("icechunk.config.", "")
    return {name: told(each) for name, each in sorted(found.items())}


def place(ic, directory):
    """Return the same directory for either library."""
    return ic.local_filesystem_storage(str(directory / "repo"))


@pytest.mark.parametrize(("writer", "reader"), [(icechunk, zfuse), (zfuse, icechunk)])
@pytest.mark.parametrize("version", [1, 2])
def test_settings_stored_by_one_library_are_read_by_the_other(writer, reader, version, tmp_path):
    """Every single one, in repositories of both versions."""
    writer.Repository.create(place(writer, tmp_path), everything(writer), spec_version=version)
    found = reader.Repository.open(place(reader, tmp_path)).config
    if reader is zfuse:
        assert found.virtual_chunk_containers == everything(zfuse).virtual_chunk_containers
        assert found.manifest == everything(zfuse).manifest
    expected, found = told(everything(reader)), told(found)
    for config in (expected, found):  # the official one makes defaults of its own up
        config.pop("repo_update_retries")
        for name in ("unsafe_use_conditional_update", "unsafe_use_metadata"):
            config["storage"].pop(name)
    assert found == expected


def test_settings_passed_in_go_before_stored_ones(tmp_path):
    """Setting by setting, and are not stored before save_config says so."""
    stored = zfuse.RepositoryConfig(
        inline_chunk_threshold_bytes=1, caching=zfuse.CachingConfig(num_chunk_refs=2)
    )
    zfuse.Repository.create(place(zfuse, tmp_path), stored)
    passed = zfuse.RepositoryConfig(
        compression=zfuse.CompressionConfig(level=4),
        caching=zfuse.CachingConfig(num_snapshot_nodes=3),
    )
    repo = zfuse.Repository.open(place(zfuse, tmp_path), passed)
    assert repo.config == zfuse.RepositoryConfig(
        inline_chunk_threshold_bytes=1,
        compression=zfuse.CompressionConfig(level=4),
        caching=zfuse.CachingConfig(num_snapshot_nodes=3, num_chunk_refs=2),
    )
    assert zfuse.Repository.fetch_config(place(zfuse, tmp_path)) == stored
    before = copy.deepcopy(repo.config)
    repo.config.inline_chunk_threshold_bytes = 7  # what is returned is a copy
    assert repo.config == before
    repo.save_config()
    assert zfuse.Repository.fetch_config(place(zfuse, tmp_path)) == before


def test_settings_that_others_store_count_from_the_next_look_on(tmp_path):
    """But never before those passed in."""
    zfuse.Repository.create(place(zfuse, tmp_path))
    passed = zfuse.RepositoryConfig(inline_chunk_threshold_bytes=1)
    repo = zfuse.Repository.open(place(zfuse, tmp_path), passed)
    other = zfuse.Repository.open(
        place(zfuse, tmp_path),
        zfuse.RepositoryConfig(
            inline_chunk_threshold_bytes=2, compression=zfuse.CompressionConfig(level=9)
        ),
    )
    other.save_config()
    repo.list_branches()
    assert repo.config.inline_chunk_threshold_bytes == 1
    assert repo.config.compression.level == 9
    repo.create_tag("t", repo.lookup_branch("main"))
    session = repo.writable_session("main")
    assert session.config == repo.config


def test_settings_that_make_no_sense_are_refused(tmp_path):
    """And nothing is made."""
    config = zfuse.RepositoryConfig(inline_chunk_threshold_bytes=-1)
    with pytest.raises(zfuse.InvalidInputError, match="inline_chunk_threshold_bytes"):
        zfuse.Repository.create(place(zfuse, tmp_path), config)
    assert not zfuse.Repository.exists(place(zfuse, tmp_path))


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("s3://b", None),
        ("s3:///", None),
        ("ftp://b/", None),
        ("file:///data/", None),
        ("s3://b/", ""),
        ("s3://b/", "a/b"),
    ],
)
def test_containers_that_make_no_sense_are_refused(prefix, name, tmp_path):
    """Wherever they are given, as in the official library, and nothing is made."""
    for ic in (icechunk, zfuse):
        container = ic.VirtualChunkContainer(prefix, ic.s3_store(region="r"), name)
        with pytest.raises(ValueError, match=r"."):
            ic.RepositoryConfig.default().set_virtual_chunk_container(container)
        config = ic.RepositoryConfig(virtual_chunk_containers={prefix: container})
        with pytest.raises(ValueError, match=r"."):
            ic.Repository.create(place(ic, tmp_path), config)
        assert not ic.Repository.exists(place(ic, tmp_path))
    zfuse.Repository.create(place(zfuse, tmp_path))
    with pytest.raises(zfuse.InvalidInputError):
        zfuse.Repository.open(place(zfuse, tmp_path), config)


def test_a_container_takes_the_place_of_those_with_its_prefix_or_name():
    """As in the official library."""
    for ic in (icechunk, zfuse):
        config = ic.RepositoryConfig.default()
        for prefix, name in (("s3://a/", "x"), ("s3://b/", "x"), ("s3://c/", None)):
            container = ic.VirtualChunkContainer(prefix, ic.s3_store(region="r"), name)
            config.set_virtual_chunk_container(container)
        assert set(config.virtual_chunk_containers) == {"s3://b/", "s3://c/"}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["Crc32", "Crc32c", "Crc64Nvme", "Sha1", "Sha256"])
def test_every_checksum_algorithm_is_saved_as_the_official_library_reads_it(
    name, version, tmp_path
):
    """Under a name that it does not know it could not open the repository any more."""
    repo = zfuse.Repository.create(place(zfuse, tmp_path), spec_version=version)
    store = zfuse.s3_store(checksum_algorithm=getattr(zfuse.ChecksumAlgorithm, name))
    config = zfuse.RepositoryConfig.default()
    config.set_virtual_chunk_container(zfuse.VirtualChunkContainer("s3://b/", store))
    repo.reopen(config).save_config()
    found = icechunk.Repository.open(place(icechunk, tmp_path)).config.virtual_chunk_containers
    assert f"ChecksumAlgorithm.{name}" in str(found["s3://b/"].store)


S3_KEY = {"access_key_id": "a", "secret_access_key": "b"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"anonymous": True},
        {"from_env": True},
        S3_KEY,
        {**S3_KEY, "session_token": "t", "expires_after": dt.datetime(2030, 1, 1, tzinfo=dt.UTC)},
        {"anonymous": True, "from_env": True},
        {**S3_KEY, "anonymous": True},
        {"access_key_id": "a"},
        {"get_credentials": dt.datetime.now, "anonymous": True},
        {"get_credentials": dt.datetime.now},
    ],
)
def test_s3_credentials_are_of_the_kind_that_the_arguments_say(given):
    """Or refused, just as the official library does."""
    kinds = []
    for ic in (icechunk, zfuse):
        try:
            kinds.append(type(ic.s3_credentials(**given)).__name__)
        except ValueError:
            kinds.append("refused")
    assert kinds[0] == kinds[1]


def test_secrets_are_in_no_representation():
    """Wherever a key goes."""
    key = zfuse.s3_static_credentials(access_key_id="known", secret_access_key="hidden")
    storage = zfuse.s3_storage(
        bucket="b", prefix="p", access_key_id="known", secret_access_key="hidden"
    )
    held = [key, zfuse.containers_credentials({"s3://b/": key}), storage]
    assert "hidden" not in repr(held) + str(held)


def test_what_is_no_credential_is_refused():
    """As the official library does."""
    for ic in (icechunk, zfuse):
        with pytest.raises(ValueError, match="Unknown credential type"):
            ic.containers_credentials({"s3://b/": 3})


@pytest.mark.parametrize(
    "call",
    [
        lambda: zfuse.gcs_storage(bucket="b", prefix="p"),
        lambda: zfuse.azure_storage(account="a", container="c", prefix="p"),
        lambda: zfuse.hf_storage(bucket="b", prefix="p", namespace="n"),
        lambda: zfuse.redirect_storage("https://host/x"),
    ],
)
def test_stores_without_a_backend_say_so(call):
    """In one line, before anything else happens."""
    with pytest.raises(zfuse.StorageError, match="no backend"):
        call()


def test_other_s3_stores_have_their_endpoints():
    """Tigris, and R2 by its account."""
    tigris = zfuse.tigris_storage(bucket="b", prefix="p", anonymous=True)
    assert tigris.options.endpoint_url == "https://t3.storage.dev"
    r2 = zfuse.r2_storage(bucket="b", prefix="p", account_id="me", anonymous=True)
    assert r2.options.endpoint_url == "https://me.r2.cloudflarestorage.com"
    with pytest.raises(zfuse.InvalidInputError, match="account_id"):
        zfuse.r2_storage(bucket="b")
    with pytest.raises(zfuse.InvalidInputError, match="headers"):
        zfuse.s3_storage(bucket="b", prefix=None, headers={"x": "y"})
