"""What every Storage must do; a backend's test file only says how to make one."""

import pytest

from zfuse.byterange import ByteRange
from zfuse.errors import ObjectNotFoundError, VersionMismatchError
from zfuse.storage.base import ABSENT


class StorageContract:
    """Subclass it and define the ``storage`` fixture."""

    async def test_get_returns_what_put_stored(self, storage):
        version = await storage.put("a/b", b"hello")
        blob = await storage.get("a/b")
        assert (blob.data, blob.version) == (b"hello", version)

    async def test_get_of_an_absent_key_raises(self, storage):
        with pytest.raises(ObjectNotFoundError):
            await storage.get("nope")

    @pytest.mark.parametrize(
        ("start", "stop", "found"), [(0, 2, b"he"), (3, 5, b"lo"), (4, 9, b"o")]
    )
    async def test_get_range_clips_at_the_end(self, storage, start, stop, found):
        await storage.put("k", b"hello")
        assert await storage.get_range("k", ByteRange(start, stop)) == found

    async def test_put_expecting_absence_wins_once(self, storage):
        await storage.put("k", b"1", expect=ABSENT)
        with pytest.raises(VersionMismatchError):
            await storage.put("k", b"2", expect=ABSENT)

    async def test_put_expecting_a_version_loses_after_a_change(self, storage):
        stale = await storage.put("k", b"1")
        await storage.put("k", b"2", expect=stale)
        with pytest.raises(VersionMismatchError):
            await storage.put("k", b"3", expect=stale)
        assert (await storage.get("k")).data == b"2"

    async def test_list_yields_only_the_prefix(self, storage):
        for key in ("a/1", "a/2", "b/1"):
            await storage.put(key, b"x")
        found = {info.key: info.size async for info in storage.list("a/")}
        assert found == {"a/1": 1, "a/2": 1}

    async def test_delete_of_an_absent_key_is_no_error(self, storage):
        await storage.delete("nope")
