import pytest

from zfuse.errors import InvalidInputError
from zfuse.format.config import RepositoryConfig, StoreConfig, VirtualChunkContainer
from zfuse.format.container_values import check_container, container_values


def container(prefix, kind="s3", options=None, name=None):
    return VirtualChunkContainer(prefix, StoreConfig(kind, options or {}), name)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (container("s3://b/x"), "write s3://b/x/"),
        (container("b/"), "where URLs start with s3://"),
        (container("gs://b/"), "where URLs start with s3://"),
        (container("s3://b/", "gcs"), "gs:// or gcs://"),
        (container("https://me:pw@h/", "http"), "names a user or a password"),
        (container("s3:///"), "write a prefix such as s3://bucket/"),
        (container("file:///", "local_file_system", {"path": "/"}), "such as file:///directory/"),
        (container("file:///x/", "local_file_system"), "has a path"),
        (container("file:///x/", "local_file_system", {"path": ""}), "has a path"),
        (container("ftp://x/", "ftp"), "no kind of store; write s3, s3_compatible"),
        (container("s3://b/", name=""), "not empty"),
        (container("s3://b/", name="a/b"), "no slash"),
        (container("s3://b/", options={"regoin": "x"}), "it has region, endpoint_url"),
        (container("s3://b/", options={"region": 5}), "5 can not be the region"),
        (container("s3://b/", options={"anonymous": "yes"}), "can not be the anonymous"),
        (container("s3://b/", options={"checksum_algorithm": "md5"}), "'md5' can not be"),
        (container("s3://b/", options={"network_stream_timeout_seconds": -1}), "-1 can not be"),
        (container("az://c/", "azure"), "needs the option account"),
        (container("gs://b/", "gcs", {"timeout": 5}), "options of a store gcs are texts"),
        (container("http://h/", "http", {"headers": {"Via": 5}}), "header Via"),
    ],
)
def test_a_wrong_container_is_told_what_to_write(wrong, words):
    with pytest.raises(InvalidInputError, match=words):
        check_container(wrong)


@pytest.mark.parametrize(
    ("kind", "prefix", "options"),
    [
        ("s3", "s3://b/", {"secret_access_key": "x"}),
        ("s3", "s3://b/", {"session_token": "x"}),
        ("s3", "s3://b/", {"access_key_id": "x"}),
        ("azure", "az://c/", {"account": "a", "account_key": "x"}),
        ("azure", "az://c/", {"account": "a", "sas_token": "x"}),
        ("gcs", "gs://b/", {"google_service_account_key": "x"}),
        ("http", "https://h/", {"headers": {"Authorization": "x"}}),
        ("http", "https://h/", {"headers": {"X-Api-Key": "x"}}),
        ("http", "https://h/", {"headers": {"cookie": "x"}}),
    ],
)
def test_credentials_are_never_persisted(kind, prefix, options):
    with pytest.raises(InvalidInputError, match="looks like a secret"):
        container_values(container(prefix, kind, options))


@pytest.mark.parametrize(
    "right",
    [
        container("s3://b/", name="n"),
        container("S3://b/x y/", "s3_compatible", {"endpoint_url": "http://h", "region": None}),
        container("tigris://b/", "tigris"),
        container("s3://b/", "tigris", {"network_stream_timeout_seconds": 5}),
        container("azure://c/x/", "azure", {"account": "a"}),
        container("http://h/", "http", {"timeout": "3s", "headers": {"Via": "x"}}),
        container("file:///x/", "local_file_system", {"path": "/x"}),
    ],
    ids=lambda right: f"{right.store.kind} {right.url_prefix}",
)
def test_values_are_read_as_the_container(right):
    values = {"virtual_chunk_containers": {"key": container_values(right)}}
    (found,) = RepositoryConfig.from_values(values).virtual_chunk_containers.values()
    assert (found.url_prefix, found.name, found.store.kind) == (
        right.url_prefix,
        right.name,
        right.store.kind,
    )
    assert found.store.options.items() >= right.store.options.items()
    check_container(found)
