"""A reader that takes a shard's index and two inner chunks costs the store those ranges."""

import os

import numpy as np
import pytest
import tensorstore
import zarr

from tests.compat.documents import array_document, put
from tests.compat.hierarchy import quiet
from tests.compat.place import changing, create, local_place, s3_place
from tests.mount.mounting import mounting
from tests.mount.settling import settle
from tests.servers.fault_proxy import fault_proxy

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

MIB = 1 << 20
SIDE = 8192
"""Of the one shard of each array: 64 MiB."""
INNER = {"huge": 2048, "large": 1024, "small": 128}
"""Sides of the inner chunks: 4 MiB, 1 MiB and 16 KiB."""
PLACES = {"apart": ((1, 2), (3, 0)), "at the start": ((0, 0), (0, 1))}
INDEX = {name: (SIDE // side) ** 2 * 16 + 4 for name, side in INNER.items()}


@quiet
def write(store, content):
    for name, inner in INNER.items():
        zarr.create_array(
            store,
            name=name,
            shape=(SIDE, SIDE),
            shards=(SIDE, SIDE),
            chunks=(inner, inner),
            dtype="u1",
            compressors=None,
        )[...] = content


@pytest.fixture(scope="module")
def content():
    return np.frombuffer(np.random.default_rng(1).bytes(SIDE * SIDE), "u1").reshape(SIDE, SIDE)


@pytest.fixture(scope="module")
def sharded(content, s3_server, tmp_path_factory):
    """A repository on S3 and the proxy that counts what is read of it."""
    place = s3_place(
        tmp_path_factory.mktemp("sharded"),
        endpoint=s3_server.endpoint,
        bucket=s3_server.make_bucket(),
        prefix="sharded",
        key=s3_server.access_key,
        secret=s3_server.secret_key,
    )
    with changing(create(place, 2), "shards") as store:
        write(store, content)
    with fault_proxy(s3_server.endpoint) as proxy:
        environment = s3_server.environment() | {"AWS_ENDPOINT_URL": proxy.url}
        yield place.url, proxy, environment


class Cost:
    """What the store was asked for in a block, with all that the kernel reads ahead there."""

    def __init__(self, mount, proxy):
        self._mount, self._proxy = mount, proxy

    def __enter__(self):
        settle(self._mount, self._proxy)
        self._before = self._proxy.bytes_sent, len(self._proxy.requests)
        return self

    def __exit__(self, *_raised):
        settle(self._mount, self._proxy)
        self.bytes = self._proxy.bytes_sent - self._before[0]
        self.requests = len(self._proxy.requests) - self._before[1]


@pytest.fixture
def tree(sharded, tmp_path):
    """The directory of a new mount, and a function that tells what a block costs."""
    url, proxy, environment = sharded
    options = ["--force-path-style", "--branch", "main"]
    with mounting(url, tmp_path / "mount", *options, env=environment) as mount:
        for name in INNER:
            assert (mount.path / name / "c/0/0").stat().st_size == SIDE * SIDE + INDEX[name]
        yield mount.path, lambda: Cost(mount, proxy)


@quiet
def with_zarr(path):
    return zarr.open_array(path, mode="r")


def with_tensorstore(path):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec, open=True, read=True).result()


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("reader", [with_zarr, with_tensorstore])
def test_two_inner_chunks_cost_little_more_than_themselves(reader, places, tree, content):
    directory, counting = tree
    for name, inner in INNER.items():
        array = reader(directory / name)
        with counting() as cost:
            for row, column in places:
                part = np.s_[row * inner : (row + 1) * inner, column * inner : (column + 1) * inner]
                assert np.array_equal(np.asarray(array[part]), content[part])
        needed = 2 * inner * inner + INDEX[name]
        assert needed <= cost.bytes < needed + MIB
        # The index; of each chunk the two pieces that the kernel asks for before anybody can
        # know that all of it is wanted, the rest, and what it reads ahead behind.
        assert cost.requests <= 1 + 2 * 4


def test_a_second_reader_of_the_same_costs_nothing(tree, content):
    directory, counting = tree
    part = np.s_[2048:3072, 1024:2048]
    assert np.array_equal(with_zarr(directory / "large")[part], content[part])
    with counting() as cost:
        assert np.array_equal(with_zarr(directory / "large")[part], content[part])
        array = with_tensorstore(directory / "large")
        assert np.array_equal(array[part].read().result(), content[part])
    # Behind what the first reader caused to be read ahead the kernel may do so again.
    assert cost.bytes < 300 << 10


def test_whoever_reads_all_of_a_shard_pays_for_it_once(tree, content):
    directory, counting = tree
    with counting() as cost:
        assert np.array_equal(with_zarr(directory / "small")[...], content)
    size = SIDE * SIDE + INDEX["small"]
    assert size <= cost.bytes < size + MIB


def test_a_shard_read_in_order_pays_once_in_few_requests(tree, content):
    directory, counting = tree
    with (
        counting() as cost,
        (directory / "large/c/0/0").open("rb", buffering=0) as file,
    ):
        while file.read(256 << 10):
            pass
    size = SIDE * SIDE + INDEX["large"]
    assert size <= cost.bytes < size + MIB
    assert cost.requests < 64


def test_scattered_small_reads_cost_blocks_not_shards(tree):
    directory, counting = tree
    with counting() as cost, (directory / "large/c/0/0").open("rb", buffering=0) as file:
        for place in range(5 * MIB, 60 * MIB, 11 * MIB):
            assert len(os.pread(file.fileno(), 100, place)) == 100
    assert cost.bytes < 5 * (256 << 10)


@quiet
def test_one_chunk_may_be_a_shard_here_and_a_plain_chunk_there(tmp_path, mount):
    """Where zarr.json was rewritten and the chunk was not: it is fetched in other pieces."""
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "sharded") as store:
        write(store, np.random.default_rng(2).integers(0, 256, (SIDE, SIDE), "u1"))
    repo.create_tag("sharded", repo.lookup_branch("main"))
    with changing(repo, "plain") as store:
        put(store, "large/zarr.json", array_document((SIDE, SIDE), (SIDE, SIDE)))
    root = mount(tmp_path / "repository")
    shard, plain = root / "tag/sharded/large/c/0/0", root / "branch/main/large/c/0/0"
    with shard.open("rb") as one, plain.open("rb") as other:
        for place in (0, 70_000, 5 * MIB, 40 * MIB + 3, 64 * MIB):
            assert one.seek(place) == other.seek(place)
            assert one.read(300_000) == other.read(300_000)
