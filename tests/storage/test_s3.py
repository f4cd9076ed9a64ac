import itertools
import socket

import pytest

from tests.contracts.storage import BIG, StorageContract
from tests.servers.fault_proxy import Answer, fault_proxy
from tests.servers.seaweedfs import REGION
from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    InvalidInputError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    StorageError,
    StorageTimeoutError,
    TransientStorageError,
    VersionMismatchError,
)
from zfuse.storage.base import ABSENT, Version
from zfuse.storage.options import StorageOptions

_numbers = itertools.count()


def options(server, **changes):
    given = {
        "endpoint_url": server.endpoint,
        "region": REGION,
        "force_path_style": True,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "deadline_s": 120.0,  # none of these tests may depend on how fast the machine is
    }
    return StorageOptions(**(given | changes))


@pytest.fixture
def place(bucket):
    """A location of the test's own."""
    return f"s3://{bucket}/s3-tests/{next(_numbers)}"


class TestS3Storage(StorageContract):
    races = 2  # SeaweedFS takes seconds for one
    bent_keys = frozenset({"back\\slash"})  # SeaweedFS lists it with a slash

    @pytest.fixture
    async def storage(self, opener, s3_server, place):
        return (await opener.open(f"{place}/with space", options(s3_server)))._inner


@pytest.fixture
async def storage(opener, s3_server, place):
    return await opener.open(place, options(s3_server))


EVERY_CALL = {
    "get": lambda s: s.get("k"),
    "get_range": lambda s: s.get_range("k", ByteRange(0, 1)),
    "head": lambda s: s.head("k"),
    "put": lambda s: s.put("k", b"x"),
    "put_absent": lambda s: s.put("k", b"x", expect=ABSENT),
    "put_version": lambda s: s.put("k", b"x", expect=Version("abc")),
    "delete": lambda s: s.delete("k"),
    "list": lambda s: anext(s.list("")),
}


# -- names --------------------------------------------------------------------------------------


async def test_the_prefix_is_part_of_the_key_and_not_of_the_listing(opener, s3_server, place):
    whole = await opener.open(place, options(s3_server))
    part = await opener.open(place + "/a/", options(s3_server))
    await part.put("k", b"hello")
    assert (await whole.get("a/k")).data == b"hello"
    await whole.put("ab/k", b"not below a/")
    assert [info.key async for info in part.list("")] == ["k"]
    assert part.url == f"{place}/a"


async def test_a_whole_bucket_is_a_storage(opener, s3_server):
    bucket = s3_server.make_bucket()
    storage = await opener.open(f"s3://{bucket}", options(s3_server))
    await storage.put("a/k", b"hello")
    assert [info.key async for info in storage.list("")] == ["a/k"]
    assert storage.url == f"s3://{bucket}"


async def test_what_is_no_key_is_not_listed(storage, s3_server, place):
    await storage.put("folder/k", b"x")
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key=f"{prefix}/folder/marker/")
    client.close()
    assert [info.key async for info in storage.list("")] == ["folder/k"]


# -- who may ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_a_wrong_secret_is_access_denied(opener, s3_server, place, call):
    storage = await opener.open(place, options(s3_server, secret_access_key="wrong"))
    with pytest.raises(AccessDeniedError, match="denied") as caught:
        await EVERY_CALL[call](storage)
    assert caught.value.exit_code == 12
    assert "\n" not in str(caught.value)
    if call != "head":  # which has no body
        assert "secret key is wrong" in str(caught.value)


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_anonymous_is_refused_where_it_is_not_allowed(opener, s3_server, place, call):
    anonymous = StorageOptions(
        endpoint_url=s3_server.endpoint, anonymous=True, force_path_style=True
    )
    storage = await opener.open(place, anonymous)
    with pytest.raises(AccessDeniedError, match="check whose credentials"):
        await EVERY_CALL[call](storage)


async def test_an_unknown_access_key_is_access_denied(opener, s3_server, place):
    storage = await opener.open(place, options(s3_server, access_key_id="nobody"))
    with pytest.raises(AccessDeniedError, match="the access key is unknown"):
        await storage.get("k")


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_no_credentials_says_what_to_do(opener, s3_server, place, call):
    storage = await opener.open(place, StorageOptions(endpoint_url=s3_server.endpoint))
    with pytest.raises(AccessDeniedError, match=r"aws sso login.*--anonymous"):
        await EVERY_CALL[call](storage)


async def test_no_such_profile_is_a_mistake_of_the_caller(opener, place):
    storage = await opener.open(place, StorageOptions(profile="nobody"))
    with pytest.raises(InvalidInputError, match="nobody"):
        await storage.get("k")


@pytest.fixture
def profile(s3_server, tmp_path, monkeypatch):
    def write(key, secret, token=""):
        path = tmp_path / "credentials"
        path.write_text(
            f"[team]\naws_access_key_id={key}\naws_secret_access_key={secret}\n"
            + (f"aws_session_token={token}\n" if token else "")
        )
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    write(s3_server.access_key, s3_server.secret_key)
    config = tmp_path / "config"
    config.write_text(
        f"[profile team]\nregion={REGION}\nendpoint_url={s3_server.endpoint}\n"
        "s3 =\n  addressing_style = path\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    return write


@pytest.mark.usefixtures("profile")
async def test_a_profile_gives_credentials_region_and_endpoint(opener, place):
    storage = await opener.open(place, StorageOptions(profile="team"))
    await storage.put("k", b"hello", expect=ABSENT)
    assert [info.key async for info in storage.list("")] == ["k"]


async def test_the_environment_gives_credentials(opener, s3_server, place, monkeypatch):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    storage = await opener.open(place, StorageOptions())
    await storage.put("k", b"hello")
    assert (await storage.get("k")).data == b"hello"


async def test_a_login_while_it_runs_is_noticed(opener, s3_server, place, profile, monkeypatch):
    """An ExpiredToken answer makes it read the profile again."""
    monkeypatch.setattr("zfuse.storage.s3_client._RENEWAL_PAUSE", 0.0)
    expired = Answer("400 Bad Request", body=b"<Error><Code>ExpiredToken</Code></Error>")
    with fault_proxy(s3_server.endpoint) as proxy:
        proxy.plan = lambda r: expired if "old-key" in r.headers["authorization"] else None
        profile("old-key", "old-secret", "old-token")
        storage = await opener.open(
            place, StorageOptions(profile="team", endpoint_url=proxy.url, force_path_style=True)
        )
        with pytest.raises(AccessDeniedError, match="log in again"):
            await storage.put("k", b"hello")
        profile(s3_server.access_key, s3_server.secret_key)
        await storage.put("k", b"hello")
        assert (await storage.get("k")).data == b"hello"
        assert [info.key async for info in storage.list("")] == ["k"]


# -- where --------------------------------------------------------------------------------------


# A HEAD answer has no body to say so, and SeaweedFS takes a version there for a lost race.
@pytest.mark.parametrize("call", sorted(EVERY_CALL.keys() - {"head", "put_version"}))
async def test_a_missing_bucket_is_named(opener, s3_server, call):
    storage = await opener.open("s3://no-such-bucket/p", options(s3_server))
    with pytest.raises(StorageError, match="no bucket no-such-bucket"):
        await EVERY_CALL[call](storage)


async def test_a_conditional_put_into_a_missing_bucket_is_no_lost_race(odd_store):
    storage, proxy = odd_store
    gone = Answer("404 Not Found", {}, b"<Error><Code>NoSuchBucket</Code></Error>")
    proxy.plan = lambda _r: gone
    for expect in (ABSENT, Version("abc")):
        with pytest.raises(ObjectNotFoundError, match="no bucket"):
            await storage.put("k", b"x", expect=expect)


async def test_a_bucket_name_that_can_not_be_is_a_mistake(opener, s3_server):
    storage = await opener.open("s3://Not_A_Bucket!/x", options(s3_server))
    with pytest.raises(InvalidInputError, match="Not_A_Bucket!"):
        await storage.get("k")


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:1", "http://", "http://[::1", "http://h:99999", "http://h/?x=y", " "]
)
async def test_an_endpoint_that_can_not_be_is_a_mistake(opener, place, endpoint):
    storage = await opener.open(place, StorageOptions(endpoint_url=endpoint, anonymous=True))
    with pytest.raises(InvalidInputError, match=r"--endpoint-url.*https://HOST"):
        await storage.get("k")


@pytest.mark.parametrize("content", [None, "no certificates"])
async def test_authorities_that_can_not_be_read_are_named(opener, monkeypatch, tmp_path, content):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    options = StorageOptions(endpoint_url="https://127.0.0.1:1", anonymous=True)
    storage = await opener.open("s3://bucket", options)
    with pytest.raises(InvalidInputError, match=r"bundle\.pem .*AWS_CA_BUNDLE"):
        await storage.get("k")


@pytest.mark.parametrize("variable", ["AWS_RETRY_MODE", "AWS_DEFAULTS_MODE"])
async def test_settings_of_aws_that_can_not_be_are_a_mistake(opener, place, monkeypatch, variable):
    monkeypatch.setenv(variable, "often")
    storage = await opener.open(place, StorageOptions(anonymous=True))
    with pytest.raises(InvalidInputError, match="often"):
        await storage.get("k")


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_a_down_endpoint_is_a_timeout_at_the_deadline(opener, s3_server, call):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        storage = await opener.open(
            "s3://bucket", options(s3_server, endpoint_url=endpoint, deadline_s=1.5)
        )
        # A busy machine may not come to connect before the deadline: for all it knows then, a
        # conditional put was sent.
        kinds = (StorageTimeoutError, *[OutcomeUnknownError] * call.startswith("put_"))
        with pytest.raises(kinds, match=r"connect|no answer") as caught:
            await EVERY_CALL[call](storage)
    assert caught.value.exit_code == 75


async def test_a_host_that_does_not_exist_is_told_at_once(opener, s3_server):
    endpoint = "http://no-such-host.invalid"
    storage = await opener.open("s3://bucket", options(s3_server, endpoint_url=endpoint))
    with pytest.raises(StorageError, match=r"no-such-host\.invalid"):
        await storage.get("k")
    assert storage.stats.retries == 0


def _region_of(request):
    return request.headers["authorization"].split("/")[2]


@pytest.mark.parametrize(
    "refusal",
    [
        Answer("301 Moved Permanently", {"x-amz-bucket-region": "eu-west-9"}),
        Answer(
            "400 Bad Request",
            {},
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-9</Region></Error>",
        ),
        Answer("403 Forbidden", {"x-amz-bucket-region": "eu-west-9"}),
    ],
    ids=lambda answer: answer.status[:3],
)
async def test_a_bucket_in_another_region_is_found(opener, s3_server, place, refusal):
    with fault_proxy(s3_server.endpoint) as proxy:
        proxy.plan = lambda r: refusal if _region_of(r) != "eu-west-9" else None
        storage = await opener.open(place, options(s3_server, endpoint_url=proxy.url))
        await storage.put("k", b"hello", expect=ABSENT)
        assert (await storage.get("k")).data == b"hello"
        assert await storage.get_range("k", ByteRange(0, 1)) == b"h"
        assert [_region_of(r) for r in proxy.requests] == [REGION, *["eu-west-9"] * 3]


async def test_requester_pays_is_said_with_every_call(opener, s3_server, place):
    with fault_proxy(s3_server.endpoint) as proxy:
        storage = await opener.open(
            place, options(s3_server, endpoint_url=proxy.url, requester_pays=True)
        )
        await storage.put("k", b"hello")
        await storage.get("k")
        assert [info.key async for info in storage.list("")] == ["k"]
        assert [r.headers["x-amz-request-payer"] for r in proxy.requests] == ["requester"] * 3


# -- odd stores ---------------------------------------------------------------------------------


@pytest.fixture
async def odd_store(opener, s3_server, place):
    """A storage (without retries) and the proxy before it."""
    with fault_proxy(s3_server.endpoint) as proxy:
        yield (await opener.open(place, options(s3_server, endpoint_url=proxy.url)))._inner, proxy


async def test_a_store_without_conditional_writes_says_so(odd_store):
    storage, proxy = odd_store
    proxy.plan = lambda _r: Answer(
        "501 Not Implemented", {}, b"<Error><Code>NotImplemented</Code></Error>"
    )
    with pytest.raises(StorageError, match="can not write conditionally"):
        await storage.put("k", b"x", expect=ABSENT)


@pytest.mark.parametrize(
    ("status", "code", "refused"),
    [
        ("503 Slow Down", "SlowDown", True),
        ("409 Conflict", "ConditionalRequestConflict", True),
        ("409 Conflict", "OperationAborted", True),
        ("400 Bad Request", "RequestTimeout", True),
        ("429 Too Many Requests", "TooManyRequests", True),
        ("500 Internal Server Error", "InternalError", False),
        ("502 Bad Gateway", "", False),
        ("503 Service Unavailable", "", False),
    ],
)
async def test_passing_troubles_tell_whether_it_acted(odd_store, status, code, refused):
    storage, proxy = odd_store
    proxy.plan = lambda _r: Answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
    for call in ("put_absent", "put_version", "get", "get_range", "delete"):
        with pytest.raises(TransientStorageError) as caught:
            await EVERY_CALL[call](storage)
        assert caught.value.refused == refused
    # A listing goes through botocore.
    with pytest.raises(TransientStorageError):
        await storage.list_page("", None)


@pytest.mark.parametrize(
    ("status", "code"), [("412 P", "PreconditionFailed"), ("404 N", "NoSuchKey")]
)
async def test_both_answers_to_a_lost_race_are_known(odd_store, status, code):
    storage, proxy = odd_store
    proxy.plan = lambda _r: Answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
    with pytest.raises(VersionMismatchError):
        await storage.put("k", b"x", expect=Version("abc"))


async def test_a_range_of_a_store_that_sends_everything(odd_store):
    storage, proxy = odd_store
    await storage.put("k", b"hello")
    proxy.plan = lambda _r: Answer("200 OK", {"ETag": '"x"'}, b"hello")
    assert await storage.get_range("k", ByteRange(1, 3)) == b"el"
    assert await storage.get_range("k", ByteRange(5, 9)) == b""
    assert await storage.get_range("k", ByteRange(2, 2)) == b""


async def test_ranges_ask_for_no_more_than_they_need(odd_store):
    storage, proxy = odd_store
    await storage.put("big", BIG)
    await storage.get_range("big", ByteRange(0, 1))
    before = proxy.bytes_sent
    assert (
        await storage.get_range("big", ByteRange(10**6, 10**6 + 1000)) == BIG[10**6 : 10**6 + 1000]
    )
    assert proxy.bytes_sent - before < 3000
    assert proxy.requests[-1].headers["range"] == "bytes=1000000-1000999"


async def test_connections_are_kept(odd_store):
    storage, proxy = odd_store
    await storage.put("k", b"hello")
    await storage.get("k")
    before = proxy.connections
    for _ in range(20):
        await storage.get_range("k", ByteRange(0, 1))
    assert proxy.connections == before


# -- TLS ----------------------------------------------------------------------------------------


async def test_an_authority_that_is_given_to_botocore_is_trusted(opener, nginx, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(nginx.certificate))
    (nginx.root / "a-bucket").mkdir()
    (nginx.root / "a-bucket" / "k").write_bytes(BIG)
    anonymous = StorageOptions(
        endpoint_url=nginx.tls_url, anonymous=True, force_path_style=True, region=REGION
    )
    storage = await opener.open("s3://a-bucket", anonymous)
    assert (await storage.get("k")).data == BIG
    assert await storage.get_range("k", ByteRange(5, 10**6)) == BIG[5 : 10**6]
    with pytest.raises(ObjectNotFoundError):
        await storage.get("nope")


async def test_a_certificate_that_is_not_trusted_is_told_at_once(opener, s3_server, nginx):
    storage = await opener.open("s3://bucket", options(s3_server, endpoint_url=nginx.tls_url))
    for call in ("get", "put", "put_absent", "head", "delete", "list"):
        with pytest.raises(StorageError, match="certificate") as caught:
            await EVERY_CALL[call](storage)
        assert not isinstance(caught.value, TransientStorageError)
        assert storage.stats.retries == 0
