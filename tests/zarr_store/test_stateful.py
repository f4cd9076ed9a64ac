"""zarr-python's state machines of hierarchies and of keys, on sessions in three places."""

import hypothesis.strategies as st
import pytest
import zarr
from hypothesis import HealthCheck, settings
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from zarr.core.buffer import cpu
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine

from tests.compat.documents import GROUP, array_document
from tests.zarr_store.owners import commit, committed, writable
from tests.zarr_store.places import storage_at
from zfuse.zarr_store.store import IcechunkStore

UNSETTLED = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
ODD_CHUNKS = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")

PLACES = [
    "memory",
    pytest.param("local", marks=pytest.mark.long),
    pytest.param("s3", marks=pytest.mark.long),
]


def run_machine(make, *, examples, steps):
    run_state_machine_as_test(
        make,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
            deadline=None,
        ),
    )


class Hierarchy(ZarrHierarchyStateMachine):
    """Commits now and then, and finds in the commit what the session has."""

    @rule()
    def commit(self):
        owner = self.store.session
        commit(owner)
        listed = sorted(self._sync_iter(self.store.list()))
        assert sorted(self._sync_iter(IcechunkStore(committed(owner)).list())) == listed


@UNSETTLED
@ODD_CHUNKS
@pytest.mark.parametrize("place", PLACES)
def test_hierarchies_are_those_of_zarrs_own_stores(place, request):
    with storage_at(place, request) as storage:
        store = IcechunkStore(writable(storage))
        run_machine(lambda: Hierarchy(store), examples=10 if place == "memory" else 100, steps=30)


DOCUMENTS = {
    "zarr.json": [GROUP],
    "a/zarr.json": [array_document((3, 2), (1, 1)), array_document((2, 4), (1, 1))],
    "dots/zarr.json": [array_document((2, 2), (1, 1), chunk_key_encoding={"name": "v2"})],
    "g/zarr.json": [GROUP, GROUP.replace(b"{}", b'{"title":"other"}')],
    "g/scalar/zarr.json": [array_document((), ())],
}
CHUNKS = {
    "a/zarr.json": [f"a/c/{i}/{k}" for i in (0, 1) for k in (0, 1)],  # in both grids
    "dots/zarr.json": [f"dots/{i}.{k}" for i in (0, 1) for k in (0, 1)],
    "g/scalar/zarr.json": ["g/scalar/c"],
}


class Keys(ZarrStoreStateMachine):
    """Sets what Icechunk can hold; deletes what depends on what is deleted, too."""

    @rule(data=st.data())
    def set(self, data):
        chunks = [key for array, keys in CHUNKS.items() if array in self.model for key in keys]
        key = data.draw(st.sampled_from([*DOCUMENTS, *chunks]))
        if key in DOCUMENTS:
            value = data.draw(st.sampled_from(DOCUMENTS[key]))
        else:
            value = data.draw(st.binary(min_size=1, max_size=1000))
        self.store.set(key, cpu.Buffer.from_bytes(value))
        self.model[key] = cpu.Buffer.from_bytes(value)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.store.delete(key)
        below = "" if key == "zarr.json" else key.removesuffix("zarr.json")
        self.model = {
            k: v
            for k, v in self.model.items()
            if k != key and not (key.endswith("zarr.json") and k.startswith(below))
        }

    @rule()
    def commit(self):
        owner = self.store.store.session
        commit(owner)
        store = IcechunkStore(committed(owner))
        for key, value in self.model.items():
            assert zarr.core.sync.sync(store.get(key, self.prototype)) == value


@pytest.mark.parametrize("place", PLACES)
def test_keys_are_those_of_a_dict(place, request):
    with storage_at(place, request) as storage:
        store = IcechunkStore(writable(storage))
        run_machine(lambda: Keys(store), examples=25 if place == "memory" else 100, steps=30)
