"""Every key of every ref has the bytes that the official store returns; nothing else is there."""

import functools

import icechunk
import pytest

from tests.compat.golden import NAMES, Golden
from tests.compat.golden_content import CONTAINER
from tests.compat.oracle import Ref, differences, expected_tree, official_keys
from tests.compat.place import Made, Place, local_place
from tests.compat.repositories import CASES, build
from tests.fs.driving import driving, listed_tree, looked_up_tree
from zfuse.fs.names import encode_name

pytestmark = [pytest.mark.compat, pytest.mark.expects_log("is not shown")]


async def assert_faithful(made):
    """Fail unless a file system over *made* shows each of its refs as it is."""
    repo = made.open()

    @functools.cache
    def official(snapshot):
        return official_keys(repo, Ref("snapshot", snapshot))

    async with driving(made.url, allow=made.allow) as driven:
        at_first = driven.fs.known_inodes
        for ref in made.refs():
            keys = official(made.snapshot_of(ref))
            expected = expected_tree(keys)
            root = await driven.find(f"{ref.kind}/{encode_name(ref.name)}")
            by_name = await looked_up_tree(driven, root.inode, expected)
            assert differences(expected, by_name) == [], f"by look-up in {ref}"
            listed = await listed_tree(driven, root.inode, [*keys, *expected.files])
            assert differences(expected, listed) == [], f"by listing of {ref}"
            driven.forget_all()
            assert driven.fs.known_inodes == at_first
        assert driven.fs.open_handles == 0


@pytest.mark.parametrize(("name", "spec"), CASES)
async def test_a_repository_of_today(name, spec, tmp_path):
    await assert_faithful(build(name, spec, local_place(tmp_path)))


@pytest.mark.parametrize("name", NAMES)
async def test_a_golden_repository(name):
    golden = Golden(name)
    storage = icechunk.local_filesystem_storage(str(golden.repository))
    place = Place(str(golden.repository), storage, golden.repository)
    report = golden.report
    # The official library wants a grant for each container, be it inside another.
    allow = (CONTAINER, f"{CONTAINER}named/")
    made = Made(place, 1, allow, report["branches"], report["tags"], [*report["snapshots"]])
    await assert_faithful(made)
