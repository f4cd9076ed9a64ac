"""Every key of every ref has, through a mount, the bytes that the official store returns."""

import functools

import icechunk
import pytest

from tests.compat.golden import NAMES, Golden
from tests.compat.golden_content import CONTAINER
from tests.compat.golden_report import digest
from tests.compat.oracle import (
    METADATA,
    Ref,
    assert_shows,
    expected_tree,
    mounted_keys,
    official_keys,
)
from tests.compat.place import Made, Place, local_place, s3_place
from tests.compat.repositories import CASES, build
from zfuse.fs.names import decode_name, encode_name

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

LISTED_SNAPSHOTS = 100
ON_S3 = [
    *(("arrays", 2), ("kinds", 1), ("virtual", 2), ("split_manifests", 2), ("names", 2)),
    *(("refs", 1), ("refs", 2), ("upgraded", 2)),
]


def allowing(made):
    return [argument for prefix in made.allow for argument in ("--allow-virtual", prefix)]


def assert_faithful(made, directory):
    """Fail unless *directory* lists every ref of *made*, and shows each as it is."""
    for kind, names in (("branch", made.branches), ("tag", made.tags)):
        shown = [path.name for path in (directory / kind).iterdir()]
        assert len(shown) == len(names)
        assert {decode_name(name, names) for name in shown} == set(names)
    listed = {path.name for path in (directory / "snapshot").iterdir()}
    assert listed <= set(made.snapshots)
    assert len(listed) == min(len(made.snapshots), LISTED_SNAPSHOTS)

    @functools.cache
    def official(snapshot):
        return official_keys(repo, Ref("snapshot", snapshot))

    repo = made.open()
    for ref in made.refs():
        assert_shows(directory / ref.kind / encode_name(ref.name), official(made.snapshot_of(ref)))


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_a_local_repository(name, spec, mount, tmp_path):
    made = build(name, spec, local_place(tmp_path))
    assert_faithful(made, mount(made.url, *allowing(made)))


@pytest.fixture(scope="module")
def account(s3_server):
    """What the official library needs in order to enter a bucket of its own."""
    return {
        "endpoint": s3_server.endpoint,
        "bucket": s3_server.make_bucket(),
        "key": s3_server.access_key,
        "secret": s3_server.secret_key,
    }


@pytest.mark.parametrize(("name", "spec"), ON_S3)
def test_a_repository_on_s3(name, spec, mount, s3_server, account, tmp_path):
    made = build(name, spec, s3_place(tmp_path, prefix=f"{name}-{spec}/repo", **account))
    options = ["--force-path-style", *allowing(made)]
    assert_faithful(made, mount(made.url, *options, env=s3_server.environment()))


def test_names_of_refs_on_s3_are_keys_as_they_are(mount, s3_server, account, tmp_path):
    """Where version 1 lies in a local directory they are percent-encoded."""
    made = build("refs", 1, s3_place(tmp_path, prefix="odd names ü%20/repo", **account))
    repo, tip = made.open(), made.branches["main"]
    odd = ["ü", "100%", "%2F", "sp ace", "#", "a+b", "q?", "x:y"]
    for name in odd:
        repo.create_branch(name, tip)
        repo.create_tag(name, tip)
    made.with_refs()
    assert set(odd) <= made.branches.keys()
    assert_faithful(made, mount(made.url, "--force-path-style", env=s3_server.environment()))


def golden_repository(golden):
    """Return a golden repository as its writer described it."""
    place = Place(
        str(golden.repository),
        icechunk.local_filesystem_storage(str(golden.repository)),
        golden.repository,
    )
    report = golden.report
    snapshots = sorted(report["snapshots"])
    # The official library wants a grant for each container, be it inside another.
    allow = (CONTAINER, f"{CONTAINER}named/")
    return Made(place, 1, allow, report["branches"], report["tags"], snapshots)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_repository(name, mount):
    made = golden_repository(Golden(name))
    assert_faithful(made, mount(made.url, *allowing(made)))


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_repository_by_the_word_of_its_writer(name, mount):
    """Not by what 2.3.0 reads in it today: the digests were taken when it was written."""
    golden = Golden(name)
    directory = mount(golden.repository)
    for snapshot, told in golden.report["snapshots"].items():
        found = mounted_keys(directory / "snapshot" / snapshot, told["keys"])
        # The writer names chunks as the store does, the mount as zarr.json says.
        official = {
            key: found[key] if key.endswith(METADATA) else content.encode()
            for key, content in told["keys"].items()
        }
        expected = expected_tree(official).files
        assert len(expected) == len(official)
        for key, content in expected.items():
            assert digest(found[key]) == (
                told["keys"][key] if key.endswith(METADATA) else content.decode()
            )
