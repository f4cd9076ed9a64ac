"""What obstore is told of buckets, which is what botocore knows."""

import http.server
import threading

import botocore.session
import pytest

from zfuse.errors import AccessDeniedError, InvalidInputError
from zfuse.storage.obstore_s3 import bucket_region, s3_place, s3_settings
from zfuse.storage.options import StorageOptions

VARIABLES = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No settings but those of the test."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=[200, 301, 403])
def telling_server(request):
    """A server that answers as AWS does of a bucket in another region."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(request.param)
            self.send_header("x-amz-bucket-region", "eu-north-1")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_region_of_a_bucket(telling_server):
    session = botocore.session.Session()
    assert bucket_region(session, "bucket", telling_server) == "eu-north-1"


def test_nobody_tells_the_region():
    assert bucket_region(botocore.session.Session(), "bucket", "http://127.0.0.1:9") is None


def test_endpoint_and_region_of_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert s3_place("bucket", StorageOptions()) == ("eu-west-1", "http://127.0.0.1:9")
    told = StorageOptions(endpoint_url="http://127.0.0.1:7", region="x")
    assert s3_place("bucket", told) == ("x", "http://127.0.0.1:7")


def test_credentials(monkeypatch, tmp_path):
    told = StorageOptions(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(AccessDeniedError, match="--anonymous"):
        s3_settings("bucket", told)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    provided = s3_settings("bucket", told)["credential_provider"]()
    assert (provided["access_key_id"], provided["secret_access_key"]) == ("key", "secret")
    (tmp_path / "credentials").write_text("[me]\naws_access_key_id=a\naws_secret_access_key=b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    told = StorageOptions(endpoint_url="http://127.0.0.1:9", profile="me")
    assert s3_settings("bucket", told)["credential_provider"]()["access_key_id"] == "a"
    told = StorageOptions(endpoint_url="http://127.0.0.1:9", profile="you")
    with pytest.raises(InvalidInputError, match=r"you.*--profile"):
        s3_settings("bucket", told)
    told = StorageOptions(endpoint_url="http://127.0.0.1:9", anonymous=True)
    settings = s3_settings("bucket", told)
    assert settings["skip_signature"]
    assert "credential_provider" not in settings


@pytest.mark.parametrize("bucket", ["bucket", "with.dots"])
def test_buckets_with_dots_go_into_the_path(bucket):
    told = StorageOptions(region="us-east-1", anonymous=True)
    by_host = s3_settings(bucket, told)["virtual_hosted_style_request"]
    assert by_host is ("." not in bucket)
