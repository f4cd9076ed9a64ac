"""What every Storage must do; a backend's test file only says how to make one."""

import contextlib
import itertools
import time

import pytest
import trio

from zfuse.byterange import ByteRange
from zfuse.errors import (
    InvalidInputError,
    ObjectNotFoundError,
    PreconditionFailedError,
    VersionMismatchError,
)
from zfuse.storage.base import ABSENT, Unmodified, Version

ODD_KEYS = [
    "with space",
    " leading and trailing ",
    "100%",
    "a%20b",
    "%2F",
    "a#b",
    "a?b=c&d",
    "a+b",
    "a=b;c,d@e:f!g$h'i(j)*k",
    "quote\"and'",
    "back\\slash",
    "<tag>|{brace}[bracket]^`~",
    "größe/日本語/🧊",
    "e\u0301 is not \u00e9",
    "..hidden/...",
    ".dot",
    "deep/er/and/deep/er/still",
    "a/c/0/0",
    "chunks/7F3K2Q9W0000000000G0",
]

BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/..", "nul\0"]

BIG = bytes(range(256)) * (9 << 12)  # 9 MiB, above the read and the multipart sizes in between


class StorageReadContract:
    """What holds of every store that can be read.

    Define the fixtures ``storage`` and ``fill``: ``await fill(key, data)`` puts an object there.
    """

    exact_etags = True  # the store's version token is an etag that a reference may carry

    async def test_get_returns_all_bytes(self, storage, fill):
        await fill("a/b", b"hello")
        assert (await storage.get("a/b")).data == b"hello"

    async def test_get_returns_an_empty_object(self, storage, fill):
        await fill("k", b"")
        assert (await storage.get("k")).data == b""
        assert await storage.get_range("k", ByteRange(0, 10)) == b""

    async def test_results_are_bytes(self, storage, fill):
        await fill("k", b"hello")
        assert type((await storage.get("k")).data) is bytes
        assert type(await storage.get_range("k", ByteRange(1, 3))) is bytes

    @pytest.mark.parametrize("call", ["get", "head", "get_range"])
    async def test_an_absent_key_raises_and_is_named(self, storage, fill, call):
        await fill("neighbour", b"x")
        args = (ByteRange(0, 1),) if call == "get_range" else ()
        for key in ("nope", "no/pe", "neighbou", "neighbour/below"):
            with pytest.raises(ObjectNotFoundError, match=key.split("/")[0]):
                await getattr(storage, call)(key, *args)

    @pytest.mark.parametrize(
        ("start", "stop"),
        [(0, 1), (0, 5), (0, 6), (0, 999), (2, 2), (3, 5), (4, 9), (5, 5), (5, 9), (7, 9),
         (2**40, 2**40 + 1), (0, 2**62)],
    )  # fmt: skip
    async def test_get_range_clips_at_the_end(self, storage, fill, start, stop):
        await fill("k", b"hello")
        assert await storage.get_range("k", ByteRange(start, stop)) == b"hello"[start:stop]

    async def test_get_range_of_nothing_still_tells_absence(self, storage):
        with pytest.raises(ObjectNotFoundError):
            await storage.get_range("nope", ByteRange(3, 3))

    async def test_big_objects_and_many_ranges_at_once(self, storage, fill):
        await fill("big", BIG)
        assert (await storage.get("big")).data == BIG
        found = {}

        async def read(wanted):
            found[wanted] = await storage.get_range("big", wanted)

        starts = range(0, len(BIG) + 400_000, 399_999)
        wanted = [ByteRange(start, start + 400_000) for start in starts]
        async with trio.open_nursery() as nursery:
            for byte_range in wanted:
                nursery.start_soon(read, byte_range)
        assert all(found[r] == BIG[r.start : r.stop] for r in wanted)

    async def test_head_tells_size_time_and_version(self, storage, fill):
        before = time.time()
        await fill("a/k", b"hello")
        info = await storage.head("a/k")
        assert (info.key, info.size) == ("a/k", 5)
        # Some stores round the time to a second.
        assert before - 1 <= info.last_modified_ns / 1e9 <= time.time() + 1
        assert info.version == (await storage.get("a/k")).version

    async def test_the_version_changes_with_the_object(self, storage, fill):
        await fill("k", b"one")
        old = (await storage.get("k")).version
        await fill("k", b"three")
        assert (await storage.get("k")).version != old

    async def test_unmodified_by_time(self, storage, fill):
        await fill("k", b"hello")
        modified = (await storage.head("k")).last_modified_ns // 10**9
        for second in (modified, modified + 1, modified + 10**6):
            wanted = Unmodified(last_modified=second)
            assert await storage.get_range("k", ByteRange(1, 3), unmodified=wanted) == b"el"

    async def test_modified_by_time(self, storage, fill):
        await fill("k", b"hello")
        modified = (await storage.head("k")).last_modified_ns // 10**9
        for second in (modified - 1, modified - 10**6, 1):
            with pytest.raises(PreconditionFailedError, match="k"):
                await storage.get_range(
                    "k", ByteRange(1, 3), unmodified=Unmodified(last_modified=second)
                )

    async def test_unmodified_by_etag(self, storage, fill):
        await fill("k", b"hello")
        etag = (await storage.head("k")).version.strip('"')
        for spelling in (etag, f'"{etag}"'):
            wanted = Unmodified(etag=spelling)
            if self.exact_etags:
                assert await storage.get_range("k", ByteRange(1, 3), unmodified=wanted) == b"el"
            else:
                with pytest.raises(PreconditionFailedError, match="can not be verified"):
                    await storage.get_range("k", ByteRange(1, 3), unmodified=wanted)

    async def test_modified_by_etag(self, storage, fill):
        await fill("k", b"hello")
        old = (await storage.head("k")).version
        await fill("k", b"howdy, longer")
        for etag in (old, "nonsense"):
            with pytest.raises(PreconditionFailedError, match="k"):
                await storage.get_range("k", ByteRange(1, 3), unmodified=Unmodified(etag=etag))

    async def test_a_precondition_holds_beyond_the_end_too(self, storage, fill):
        await fill("k", b"hello")
        with pytest.raises(PreconditionFailedError):
            await storage.get_range("k", ByteRange(7, 9), unmodified=Unmodified(last_modified=1))

    async def test_a_precondition_on_nothing_is_not_found(self, storage):
        with pytest.raises(ObjectNotFoundError):
            await storage.get_range("no", ByteRange(0, 1), unmodified=Unmodified(last_modified=1))

    @pytest.mark.parametrize("key", ODD_KEYS)
    async def test_odd_keys_are_taken_verbatim(self, storage, fill, key):
        await fill(key, key.encode())
        assert (await storage.get(key)).data == key.encode()
        assert await storage.get_range(key, ByteRange(0, 999)) == key.encode()
        info = await storage.head(key)
        assert (info.key, info.size) == (key, len(key.encode()))

    @pytest.mark.parametrize("key", BAD_KEYS)
    @pytest.mark.parametrize("call", ["get", "head", "get_range"])
    async def test_reading_outside_the_root_is_refused(self, storage, call, key):
        args = (ByteRange(0, 1),) if call == "get_range" else ()
        with pytest.raises(InvalidInputError):
            await getattr(storage, call)(key, *args)

    async def test_a_cancelled_read_does_no_harm(self, storage, fill):
        await fill("big", BIG)
        for _ in range(20):
            with trio.move_on_after(0) as scope:
                await storage.get("big")
            assert scope.cancelled_caught
        assert (await storage.get("big")).data == BIG

    async def test_the_url_is_printable_and_holds_no_secret(self, storage):
        assert storage.url.isprintable()
        assert "secret" not in storage.url


class StorageContract(StorageReadContract):
    """What holds of every store that can be written; define the ``storage`` fixture."""

    @pytest.fixture
    def fill(self, storage):
        return storage.put

    # -- put ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 3 << 20])
    async def test_put_file_stores_the_bytes_of_a_file(self, storage, tmp_path, size):
        path = tmp_path / "source"
        path.write_bytes(b"z" * size)
        await storage.put_file("chunks/FILE", path)
        assert (await storage.get("chunks/FILE")).data == b"z" * size
        path.unlink()  # the store does not need it any more
        assert (await storage.get("chunks/FILE")).data == b"z" * size

    async def test_put_returns_the_version_that_get_sees(self, storage):
        version = await storage.put("a/b", b"hello")
        assert (await storage.get("a/b")).version == version
        assert (await storage.head("a/b")).version == version

    async def test_put_takes_any_buffer(self, storage):
        await storage.put("k", memoryview(bytearray(b"hello")))
        assert (await storage.get("k")).data == b"hello"

    async def test_every_put_makes_a_new_version(self, storage):
        versions = [await storage.put("k", b"%d" % n) for n in range(20)]
        assert len(set(versions)) == 20

    async def test_put_expecting_absence_wins_once(self, storage):
        await storage.put("k", b"1", expect=ABSENT)
        with pytest.raises(VersionMismatchError):
            await storage.put("k", b"2", expect=ABSENT)
        assert (await storage.get("k")).data == b"1"

    async def test_put_expecting_absence_wins_again_after_a_delete(self, storage):
        await storage.put("k", b"1", expect=ABSENT)
        await storage.delete("k")
        await storage.put("k", b"2", expect=ABSENT)
        assert (await storage.get("k")).data == b"2"

    async def test_put_expecting_a_version_loses_after_a_change(self, storage):
        stale = await storage.put("k", b"1")
        await storage.put("k", b"2", expect=stale)
        with pytest.raises(VersionMismatchError):
            await storage.put("k", b"3", expect=stale)
        assert (await storage.get("k")).data == b"2"

    async def test_versions_chain(self, storage):
        version = await storage.put("k", b"0", expect=ABSENT)
        for n in range(1, 6):
            version = await storage.put("k", b"%d" % n, expect=version)
        assert (await storage.get("k")).data == b"5"

    async def test_put_expecting_a_version_loses_after_a_plain_put(self, storage):
        stale = await storage.put("k", b"1")
        await storage.put("k", b"2")
        with pytest.raises(VersionMismatchError):
            await storage.put("k", b"3", expect=stale)
        assert (await storage.get("k")).data == b"2"

    async def test_put_expecting_a_version_of_nothing_loses(self, storage):
        gone = await storage.put("k", b"1")
        await storage.delete("k")
        for key, version in (("k", gone), ("never/was", gone), ("k", Version("nonsense"))):
            with pytest.raises(VersionMismatchError):
                await storage.put(key, b"2", expect=version)
            with pytest.raises(ObjectNotFoundError):
                await storage.get(key)

    async def test_put_expecting_anothers_version_loses(self, storage):
        other = await storage.put("other", b"1")
        await storage.put("k", b"2")
        with pytest.raises(VersionMismatchError):
            await storage.put("k", b"3", expect=other)

    async def test_put_without_expectation_always_wins(self, storage):
        for data in (b"1", b"2", b""):
            await storage.put("k", data)
            assert (await storage.get("k")).data == data

    @pytest.mark.parametrize("key", ODD_KEYS)
    async def test_odd_keys_are_written_conditionally_too(self, storage, key):
        version = await storage.put(key, b"1", expect=ABSENT)
        with pytest.raises(VersionMismatchError):
            await storage.put(key, b"2", expect=ABSENT)
        await storage.put(key, b"3", expect=version)
        assert (await storage.get(key)).data == b"3"

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_writing_outside_the_root_is_refused(self, storage, key):
        with pytest.raises(InvalidInputError):
            await storage.put(key, b"x")
        with pytest.raises(InvalidInputError):
            await storage.delete(key)

    async def test_a_directory_is_no_object(self, storage):
        await storage.put("dir/k", b"x")
        with pytest.raises(ObjectNotFoundError):
            await storage.get("dir")

    # -- races ----------------------------------------------------------------------------------

    races = 5

    async def test_of_concurrent_creators_one_wins(self, storage):
        for round_ in range(self.races):
            won = []

            async def create(n, key=f"race/{round_}", won=won):
                try:
                    await storage.put(key, b"%d" % n, expect=ABSENT)
                except VersionMismatchError:
                    return
                won.append(b"%d" % n)

            async with trio.open_nursery() as nursery:
                for n in range(8):
                    nursery.start_soon(create, n)
            assert len(won) == 1
            assert (await storage.get(f"race/{round_}")).data == won[0]

    async def test_concurrent_swappers_lose_no_update(self, storage):
        await storage.put("counter", b"0")
        writers, steps = 4, 5

        async def count():
            done = 0
            while done < steps:
                blob = await storage.get("counter")
                try:
                    await storage.put("counter", b"%d" % (int(blob.data) + 1), expect=blob.version)
                except VersionMismatchError:
                    continue
                done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(writers):
                nursery.start_soon(count)
        assert (await storage.get("counter")).data == b"%d" % (writers * steps)

    async def test_readers_see_whole_objects_while_they_are_replaced(self, storage):
        pages = [bytes([n]) * 300_000 for n in range(4)]
        await storage.put("k", pages[0])
        seen = 0

        async def write(scope):
            for page in itertools.islice(itertools.cycle(pages), 20):
                await storage.put("k", page)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, nursery.cancel_scope)
            while True:
                assert (await storage.get("k")).data in pages
                assert await storage.get_range("k", ByteRange(0, 400_000)) in pages
                seen += 1
        assert seen

    async def test_a_cancelled_put_leaves_all_or_nothing(self, storage):
        for n in range(5):
            with trio.move_on_after(n * 0.002):
                await storage.put("k", BIG)
            with contextlib.suppress(ObjectNotFoundError):
                assert (await storage.get("k")).data == BIG

    # -- list and delete ------------------------------------------------------------------------

    async def listed(self, storage, prefix):
        return {info.key: info.size async for info in storage.list(prefix)}

    async def test_list_yields_only_the_prefix(self, storage):
        for key in ("a/1", "a/2", "b/1", "ab"):
            await storage.put(key, b"x")
        assert await self.listed(storage, "a/") == {"a/1": 1, "a/2": 1}

    async def test_a_prefix_may_end_inside_a_name(self, storage):
        for key in ("refs/branch.main/ref.json", "refs/branch.m/ref.json", "refs/tag.m/ref.json"):
            await storage.put(key, b"x")
        assert await self.listed(storage, "refs/branch.m") == {
            "refs/branch.main/ref.json": 1,
            "refs/branch.m/ref.json": 1,
        }
        assert await self.listed(storage, "refs/branch.main/ref.json") == {
            "refs/branch.main/ref.json": 1
        }

    async def test_an_empty_prefix_lists_everything(self, storage):
        for key in ("repo", "a/b/c/d", "a/b.c"):
            await storage.put(key, key.encode())
        assert await self.listed(storage, "") == {"repo": 4, "a/b/c/d": 7, "a/b.c": 5}

    @pytest.mark.parametrize("prefix", ["", "nope", "nope/", "no/such/", "file/"])
    async def test_list_of_nothing_yields_nothing(self, storage, prefix):
        await storage.put("file", b"x")
        await storage.put("dir/k", b"x")
        await storage.delete("dir/k")
        assert await self.listed(storage, prefix) == ({"file": 1} if prefix == "" else {})

    async def test_list_tells_what_head_tells(self, storage):
        for n in range(3):
            await storage.put(f"a/{n}", b"x" * n)
        async for info in storage.list("a/"):
            head = await storage.head(info.key)
            assert (info.key, info.size, info.version) == (head.key, head.size, head.version)
            # A listing may be more precise than a header.
            assert abs(info.last_modified_ns - head.last_modified_ns) < 10**9

    async def test_list_knows_odd_keys(self, storage):
        wanted = {"odd/" + key: len(key.encode()) for key in ODD_KEYS if key not in self.bent_keys}
        for key, size in wanted.items():
            await storage.put(key, b"x" * size)
        assert await self.listed(storage, "odd/") == wanted

    bent_keys = frozenset()  # keys that the store lists in another spelling

    @pytest.mark.parametrize("prefix", ["/", "/a", "../", "../a", "a/../b", "a//", "./a", "nul\0"])
    async def test_listing_outside_the_root_is_refused(self, storage, prefix):
        with pytest.raises(InvalidInputError):
            await self.listed(storage, prefix)

    async def test_a_listing_may_be_left_early(self, storage):
        for n in range(5):
            await storage.put(f"a/{n}", b"x")
        listing = storage.list("a/")
        assert (await anext(listing)).key.startswith("a/")
        await listing.aclose()

    async def test_list_of_many(self, storage):
        keys = {f"many/{n:04}" for n in range(self.many)}
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(storage.put, key, b"x")
        assert set(await self.listed(storage, "many/")) == keys

    many = 1100  # more than one page of S3's, more than one batch of the local listing

    async def test_delete_removes(self, storage):
        await storage.put("a/k", b"x")
        await storage.delete("a/k")
        with pytest.raises(ObjectNotFoundError):
            await storage.get("a/k")
        assert await self.listed(storage, "a") == {}

    async def test_delete_many_removes_what_is_there(self, storage):
        for key in ("a/k", "b", "a/stays"):
            await storage.put(key, b"1")
        await storage.delete_many(["a/k", "b", "a/absent", "c/absent", "b/below"])
        assert [info.key async for info in storage.list("")] == ["a/stays"]
        await storage.delete_many([])

    async def test_delete_of_an_absent_key_is_no_error(self, storage):
        await storage.put("neighbour", b"x")
        for key in ("nope", "no/pe"):
            await storage.delete(key)
        assert await self.listed(storage, "") == {"neighbour": 1}
