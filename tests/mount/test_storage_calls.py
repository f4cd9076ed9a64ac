"""What the mount knows it does not ask again: counted at the store's door."""

import os
import subprocess

import pytest

from tests.compat.place import s3_place
from tests.compat.repositories import build
from tests.mount.mounting import mounting
from tests.mount.settling import settle
from tests.servers.fault_proxy import fault_proxy

pytestmark = [pytest.mark.compat, pytest.mark.fuse]


@pytest.fixture(scope="module")
def mounted_s3(s3_server, tmp_path_factory):
    """A mount of a repository on S3, and the proxy that counts."""
    directory = tmp_path_factory.mktemp("calls")
    place = s3_place(
        directory,
        endpoint=s3_server.endpoint,
        bucket=s3_server.make_bucket(),
        prefix="calls",
        key=s3_server.access_key,
        secret=s3_server.secret_key,
    )
    made = build("arrays", 2, place)
    with fault_proxy(s3_server.endpoint) as proxy:
        environment = s3_server.environment() | {"AWS_ENDPOINT_URL": proxy.url}
        with mounting(
            made.url, directory / "mount", "--force-path-style", env=environment
        ) as mount:
            yield mount, proxy


def walk(directory):
    for root, _, names in os.walk(directory):
        for name in names:
            os.stat(os.path.join(root, name))


def run(*command):
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def chunks_below(directory):
    return [p for p in directory.rglob("*") if p.is_file() and p.name != "zarr.json"]


LOOKS = {
    "stat of everything": walk,
    "listing": lambda d: run("ls", "-lR", d),
    "find": lambda d: run("find", d, "-size", "+1"),
    "du": lambda d: run("du", "-a", d),
    "statfs": os.statvfs,
    "df": lambda d: run("df", d),
    "absent names": lambda d: [os.path.exists(d / f"dt/f8/c/{n}/9") for n in range(50)],
    "zarr.json": lambda d: [path.read_bytes() for path in d.rglob("zarr.json")],
    "xattrs": lambda d: [os.getxattr(p, "user.zfuse.kind") for p in chunks_below(d)],
    "control files": lambda d: [p.read_bytes() for p in (d.parents[1] / ".zfuse").glob("st*")],
    "chunks once more": lambda d: [p.read_bytes() for p in chunks_below(d / "codec")],
}


@pytest.fixture(scope="module")
def loaded(mounted_s3):
    mount, _ = mounted_s3
    directory = mount.path / "branch/main"
    walk(directory)
    LOOKS["chunks once more"](directory)
    return directory


@pytest.fixture
def requests(mounted_s3, loaded):
    """A function that returns the requests since the test began, once nothing is under way."""
    mount, proxy = mounted_s3
    settle(mount, proxy)
    before = len(proxy.requests)

    def since():
        settle(mount, proxy)
        return [request.target for request in proxy.requests[before:]]

    return since


@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_loaded_metadata_asks_no_store(look, loaded, requests):
    LOOKS[look](loaded)
    assert requests() == []


def test_another_name_for_the_same_snapshot_asks_nothing_new(loaded, requests):
    """The same manifests and zarr.json, by new inodes: the kernel knows none of them."""
    snapshot = os.getxattr(loaded / "dt", "user.zfuse.snapshot").decode()
    walk(loaded.parents[1] / "snapshot" / snapshot)
    assert requests() == []


def test_loading_asks_for_each_object_once(mounted_s3, loaded):
    _, proxy = mounted_s3
    gets = [r.target.partition("?")[0] for r in proxy.requests if r.method == "GET"]
    metadata = [
        t for t in gets if "/manifests/" in t or "/snapshots/" in t or "/transactions/" in t
    ]
    assert len(metadata) == len(set(metadata))
    assert len([t for t in metadata if "/manifests/" in t]) > 10
