"""What a repository says about itself, saved by zfuse and judged by the official library."""

import icechunk
import pytest
from icechunk import ManifestPreloadCondition as Preload
from icechunk import ManifestSplitCondition as Arrays
from icechunk import ManifestSplitDimCondition as Dimensions
from icechunk import storage as stores
from icechunk._icechunk_python import RepoUpdateRetryConfig  # public nowhere

from tests.repo.stores import AnyContainers
from zfuse.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    ReadOnlyError,
)
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.format.config_settings import put
from zfuse.format.repo_info import Availability, UpdateKind
from zfuse.format.repo_update import FeatureFlag
from zfuse.repo.create import create_repository
from zfuse.repo.repository import Repository, fetch_state
from zfuse.repo.settings import (
    add_container,
    change_config,
    remove_container,
    set_feature_flag,
    set_metadata,
    set_status,
    update_metadata,
)
from zfuse.storage.local import LocalStorage

S3 = {"region": "eu-1", "endpoint_url": "http://localhost:1", "allow_http": True}
OPTIONS = {"anonymous": True, "force_path_style": True, "requester_pays": True}
PAIRS = [
    (
        VirtualChunkContainer("s3://b/", StoreConfig("s3", {"region": "us-east-1"})),
        stores.s3_store(region="us-east-1"),
    ),
    (
        VirtualChunkContainer("s3://b/c/", StoreConfig("s3_compatible", {**S3, **OPTIONS}), "no"),
        stores.s3_store(s3_compatible=True, **S3, **OPTIONS),
    ),
    (
        VirtualChunkContainer(
            "s3://b/d/",
            StoreConfig(
                "s3", {"network_stream_timeout_seconds": 5, "checksum_algorithm": "crc32c"}
            ),
        ),
        stores.s3_store(
            network_stream_timeout_seconds=5,
            checksum_algorithm=stores.ChecksumAlgorithm.Crc32c,
        ),
    ),
    (
        VirtualChunkContainer("tigris://t/", StoreConfig("tigris", {"region": "auto"}), "q: [#x]"),
        icechunk.ObjectStoreConfig.Tigris(stores.S3Options(region="auto")),
    ),
    (VirtualChunkContainer("gs://g/", StoreConfig("gcs"), "ünï \\ \x85"), stores.gcs_store({})),
    (
        VirtualChunkContainer("gs://h/", StoreConfig("gcs", {"timeout": "3s"})),
        stores.gcs_store({"timeout": "3s"}),
    ),
    (
        VirtualChunkContainer("az://c/", StoreConfig("azure", {"account": "null"})),
        stores.azure_store(account="null"),
    ),
    (VirtualChunkContainer("https://h/", StoreConfig("http")), stores.http_store({})),
    (
        VirtualChunkContainer(
            "http://h:1/x/",
            StoreConfig("http", {"timeout": "1e3", "headers": {"From": "0x10", "Via": "~"}}),
        ),
        stores.http_store({"timeout": "1e3"}, headers={"From": "0x10", "Via": "~"}),
    ),
    (
        VirtualChunkContainer("file:///a%20b/", StoreConfig("local_file_system", {"path": "/a b"})),
        stores.local_filesystem_store("/a b"),
    ),
]


async def opened(storage):
    return await Repository.open(storage, virtual=AnyContainers())


@pytest.fixture(params=[1, 2])
def official(request, tmp_path):
    """A repository of the official library's, in ``tmp_path``."""
    place = icechunk.local_filesystem_storage(str(tmp_path))
    return icechunk.Repository.create(place, spec_version=request.param)


def fetched(directory):
    return icechunk.Repository.fetch_config(icechunk.local_filesystem_storage(str(directory)))


def full_config():
    """Return a configuration that has a value in every section."""
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=0,
        get_partial_values_concurrency=3,
        max_concurrent_requests=5,
        max_concurrent_decodes=7,
        num_updates_per_repo_info_file=11,
    )
    config.compression = icechunk.CompressionConfig(
        level=5, algorithm=icechunk.CompressionAlgorithm.Zstd
    )
    config.caching = icechunk.CachingConfig(num_chunk_refs=2**64 - 1, num_bytes_chunks=0)
    config.storage = icechunk.StorageSettings(
        concurrency=icechunk.StorageConcurrencySettings(ideal_concurrent_request_size=13),
        retries=icechunk.StorageRetriesSettings(max_tries=2, initial_backoff_ms=1),
        timeouts=icechunk.StorageTimeoutSettings(read_timeout_ms=9),
        unsafe_use_metadata=False,
        storage_class="0o17",
    )
    arrays = Arrays.or_conditions(
        [
            Arrays.name_matches("^t'$"),
            Arrays.and_conditions([Arrays.path_matches("\\d:"), Arrays.AnyArray()]),
        ]
    )
    sizes = {Dimensions.DimensionName("time"): 3, Dimensions.Axis(1): 4, Dimensions.Any(): 7}
    preload = Preload.and_conditions(
        [
            Preload.num_refs(1, None),
            Preload.num_refs(None, 9),
            Preload.or_conditions([Preload.true(), Preload.false(), Preload.path_matches("x")]),
        ]
    )
    config.manifest = icechunk.ManifestConfig(
        preload=icechunk.ManifestPreloadConfig(max_total_refs=1, preload_if=preload),
        splitting=icechunk.ManifestSplittingConfig.from_dict(
            {arrays: sizes, Arrays.AnyArray(): {Dimensions.Any(): 100}}
        ),
        max_concurrent_manifest_fetches_during_commit=4,
    )
    config.repo_update_retries = RepoUpdateRetryConfig(
        icechunk.StorageRetriesSettings(max_tries=3, initial_backoff_ms=4, max_backoff_ms=5)
    )
    for ours, theirs in PAIRS:
        config.set_virtual_chunk_container(
            icechunk.VirtualChunkContainer(ours.url_prefix, theirs, ours.name)
        )
    return config


@pytest.mark.compat
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].url_prefix)
async def test_containers_are_what_the_official_library_declares(pair, official, tmp_path):
    ours, theirs = pair
    repository = await opened(LocalStorage(tmp_path))
    assert await add_container(repository, ours)
    found = fetched(tmp_path).virtual_chunk_containers
    assert found == {
        ours.url_prefix: icechunk.VirtualChunkContainer(ours.url_prefix, theirs, ours.name)
    }
    assert not await add_container(repository, ours)
    (known,) = repository.state.config.virtual_chunk_containers.values()
    assert (known.url_prefix, known.name, known.store.kind) == (
        ours.url_prefix,
        ours.name,
        ours.store.kind,
    )
    assert known.store.options.items() >= ours.store.options.items()


@pytest.mark.compat
async def test_a_configuration_survives_a_change(official, tmp_path):
    """The official library saves, zfuse changes one setting, and the other way round."""
    place = icechunk.local_filesystem_storage(str(tmp_path))
    icechunk.Repository.open(place, config=full_config()).save_config()
    expected = fetched(tmp_path)
    repository = await opened(LocalStorage(tmp_path))
    await change_config(repository, lambda config: config)
    assert fetched(tmp_path) == expected
    await change_config(repository, lambda config: put(config, "compression.level", 9))
    expected.compression.level = 9
    assert fetched(tmp_path) == expected
    icechunk.Repository.open(place).save_config()
    state = await fetch_state(repository.storage)
    assert state.config == repository.state.config
    assert len(state.config.virtual_chunk_containers) == len(PAIRS)


@pytest.mark.compat
async def test_a_first_setting_leaves_all_others_at_their_defaults(official, tmp_path):
    repository = await opened(LocalStorage(tmp_path))
    changes = {
        "inline_chunk_threshold_bytes": 77,
        "manifest.preload.max_total_refs": 5,
        "storage.retries.max_tries": 3,
        "repo_update_retries.default.max_tries": 4,
    }
    for key, value in changes.items():
        await change_config(repository, lambda config, k=key, v=value: put(config, k, v))
    expected = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=77)
    preload = icechunk.ManifestPreloadConfig(max_total_refs=5)
    expected.manifest = icechunk.ManifestConfig(preload=preload)
    expected.storage = icechunk.StorageSettings(
        retries=icechunk.StorageRetriesSettings(max_tries=3)
    )
    expected.repo_update_retries = RepoUpdateRetryConfig(
        icechunk.StorageRetriesSettings(max_tries=4)
    )
    assert str(fetched(tmp_path)) == str(expected)
    session = icechunk.Repository.open(official.storage).writable_session("main")
    assert session.config.inline_chunk_threshold_bytes == 77


async def test_backups_are_kept_as_the_official_library_does(official, tmp_path):
    kind = "config.yaml." if official.spec_version == 1 else "repo."
    repository = await opened(LocalStorage(tmp_path))
    for level in (4, 5, 6):
        await change_config(repository, lambda c, n=level: put(c, "compression.level", n))
    backups = list((tmp_path / "overwritten").iterdir())
    # The first config.yaml of a repository replaces nothing.
    assert len(backups) == (2 if official.spec_version == 1 else 3)
    assert all(path.name.startswith(kind) for path in backups)
    if official.spec_version == 1:
        assert sorted(b"level: 4" in path.read_bytes() for path in backups) == [False, True]


async def test_unknown_settings_are_kept(repository, store):
    if repository.state.spec_version == 1:
        text = b"of_the_future: !new {a: !old 1, b: {c: 1}}\ninline_chunk_threshold_bytes: 5\n"
        await store.put("config.yaml", text)
    else:
        await change_config(repository, lambda _: {"of_the_future": {"new": {"a": {"old": 1}}}})
    await change_config(repository, lambda config: put(config, "compression.level", 4))
    assert repository.state.config.raw["of_the_future"]["new"]["a"] == {"old": 1}
    if repository.state.spec_version == 1:
        stored = (await store.get("config.yaml")).data
        assert b"of_the_future: !new\n  a: !old 1\n  b:\n    c: 1\n" in stored


@pytest.mark.parametrize("carried_out", [True, False])
async def test_lost_answers_are_found_out(carried_out, repository, store):
    for level in (4, 5):  # the first makes a config.yaml, the second replaces it
        store.lose = [carried_out]
        await change_config(repository, lambda c, n=level: put(c, "compression.level", n))
        assert (await fetch_state(store)).config.compression_level == level
    assert repository.state.config.compression_level == 5


async def test_changes_of_others_are_kept(repository, store):
    """Somebody else changes another setting between our reading and our writing."""
    other = await opened(store)
    inner = store.put

    async def others_first(key, data, *, expect=None):
        if expect is not None:
            store.put = inner
            await change_config(other, lambda config: put(config, "compression.level", 7))
        return await inner(key, data, expect=expect)

    store.put = others_first
    await change_config(repository, lambda c: put(c, "inline_chunk_threshold_bytes", 9))
    config = (await fetch_state(store)).config
    assert (config.compression_level, config.inline_chunk_threshold_bytes) == (7, 9)
    assert repository.state.config == config


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("compression.level", "high", "a whole number from 0 to 255"),
        ("compression.level", True, "a whole number"),
        ("compression", 3, "compression is a group"),
        ("max_concurrent_requests", 0, "from 1 to 65535"),  # it would wait for ever
        ("max_concurrent_decodes", 0, "from 1 to 65535"),
        ("previous_file", 5, "a text"),
        ("inline_chunk_threshold_bytes", 65536, "from 0 to 65535"),
        ("manifest.splitting.split_sizes", [["any", []]], "any_array"),
        ("manifest.preload.preload_if", {"or": ["maybe"]}, "name_matches"),
        ("storage.unsafe_use_metadata", "no", "true or false"),
        ("virtual_chunk_containers", {"s3://b": {"url_prefix": "s3://b"}}, "s3://b is not valid"),
    ],
)
async def test_what_the_official_library_could_not_read_is_refused(key, value, words, repository):
    before = await fetch_state(repository.storage)
    with pytest.raises(InvalidInputError, match=words):
        await change_config(repository, lambda config: put(config, key, value))
    assert (await fetch_state(repository.storage)).config == before.config


async def test_two_containers_never_share_a_prefix_or_a_name(store, repository):
    repository = await opened(store)
    one = VirtualChunkContainer("s3://b/", StoreConfig("s3"), "one")
    two = VirtualChunkContainer("s3://c/", StoreConfig("s3"))
    for container in (one, two):
        assert await add_container(repository, container)
    renamed = VirtualChunkContainer("s3://b/", StoreConfig("s3"), "two")
    moved = VirtualChunkContainer("s3://d/", StoreConfig("s3"), "one")
    for other in (renamed, moved, VirtualChunkContainer("s3://c/", StoreConfig("s3"), "one")):
        with pytest.raises(AlreadyExistsError, match="--replace"):
            await add_container(repository, other)
    await add_container(repository, moved, replace=True)
    declared = repository.state.config.virtual_chunk_containers
    assert {c.url_prefix: c.name for c in declared.values()} == {"s3://c/": None, "s3://d/": "one"}
    with pytest.raises(NotFoundError, match=r"the repository has .*'s3://d/'"):
        await remove_container(repository, "two")
    await remove_container(repository, "one")
    await remove_container(repository, "s3://c")
    assert (await fetch_state(store)).config.virtual_chunk_containers == {}


async def test_a_container_that_an_older_library_declared_is_the_same(store):
    await create_repository(store, spec_version=1)
    text = "'s3://b/': {name: null, url_prefix: 's3://b/', store: !s3 {region: eu}}"
    await store.put("config.yaml", f"virtual_chunk_containers: {{{text}}}\n".encode())
    repository = await opened(store)
    same = VirtualChunkContainer("s3://b/", StoreConfig("s3", {"region": "eu"}))
    assert not await add_container(repository, same)
    other = VirtualChunkContainer("s3://b/", StoreConfig("s3", {"region": "us"}))
    with pytest.raises(AlreadyExistsError):
        await add_container(repository, other)


async def test_metadata_status_and_flags(official, tmp_path):
    repository = await opened(LocalStorage(tmp_path))
    if official.spec_version == 1:
        for attempt in (
            set_metadata(repository, {}),
            update_metadata(repository, {}),
            set_status(repository, Availability.READ_ONLY),
            set_feature_flag(repository, FeatureFlag.MOVE_NODE, value=None),
        ):
            with pytest.raises(NotAllowedError, match="zfuse upgrade"):
                await attempt
        return
    await set_metadata(repository, {"a": 1, "b": [None, {"c": "ü"}]})
    assert await update_metadata(repository, {"a": 2}) == {"a": 2, "b": [None, {"c": "ü"}]}
    reopened = icechunk.Repository.open(official.storage)
    assert reopened.metadata == {"a": 2, "b": [None, {"c": "ü"}]}
    await set_feature_flag(repository, FeatureFlag.MOVE_NODE, value=False)
    await set_feature_flag(repository, FeatureFlag.CREATE_TAG, value=True)
    flags = {flag.name: flag.enabled for flag in reopened.feature_flags()}
    assert flags == {"move_node": False, "create_tag": True, "delete_tag": True}
    await set_feature_flag(repository, FeatureFlag.MOVE_NODE, value=None)
    assert {flag.enabled for flag in reopened.feature_flags()} == {True}
    await set_status(repository, Availability.READ_ONLY, "moving")
    assert reopened.status.availability == icechunk.RepoAvailability.read_only
    assert reopened.status.limited_availability_reason == "moving"
    with pytest.raises(ReadOnlyError, match="moving"):
        await update_metadata(repository, {"a": 3})
    await set_status(repository, Availability.ONLINE)
    kinds = [update.kind async for update in repository.updates()]
    assert kinds[:2] == [UpdateKind.REPO_STATUS_CHANGED] * 2
    assert [type(u.kind).__name__ for u in reopened.ops_log()][-1] == "RepoInitialized"
