"""The inode table against a model: a dict of all that was ever numbered."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from zfuse.errors import StaleError
from zfuse.fs import inodes
from zfuse.fs.entry import Caching, Entry, EntryKind, InodeGroup
from zfuse.fs.inodes import INDEX_BITS, INDEX_LIMIT, ROOT, InodeTable


@dataclass(frozen=True)
class Group(InodeGroup):
    name: str

    def entry_at(self, index):
        return Thing(self.name, index, self)


@dataclass(frozen=True)
class Thing(Entry):
    name: str
    index: int = 0
    group: Group | None = None

    @property
    def kind(self):
        return EntryKind.FILE

    @property
    def place(self):
        return None if self.group is None else (self.group, self.index)

    @property
    def mtime_ns(self):
        return 0

    @property
    def caching(self):
        return Caching.FOREVER

    async def size(self):
        return 0


things = st.one_of(
    st.builds(Thing, st.sampled_from("abc")),
    st.builds(
        lambda name, index: Group(name).entry_at(index),
        st.sampled_from("abc"),
        st.one_of(st.integers(0, 3), st.just(INDEX_LIMIT - 1)),
    ),
)


class Table(RuleBasedStateMachine):
    """``held`` counts what the kernel holds, ``ever`` is what each inode was given to."""

    known = Bundle("known")

    def __init__(self):
        super().__init__()
        self.root = Thing("root")
        self.table = InodeTable(self.root)
        self.ever = {ROOT: self.root}
        self.held = {}

    @rule(target=known, thing=things)
    def look_up(self, thing):
        inode = self.table.number(thing)
        self.table.remember(inode)
        assert self.ever.setdefault(inode, thing) == thing, "a number for two things"
        assert self.table.known_number(thing) == inode
        self.held.setdefault(inode, 0)
        self.held[inode] += 1
        return inode

    @rule(inode=known)
    def remember(self, inode):
        if self.held.get(inode):
            self.table.remember(inode)
            self.held[inode] += 1

    @rule(inode=consumes(known), share=st.floats(0, 1))
    def forget(self, inode, share):
        count = max(1, round(self.held.get(inode, 0) * share))
        if self.held.get(inode, 0) < count:
            return
        self.table.forget(inode, count)
        self.held[inode] -= count

    @rule(thing=things)
    def look_without_touching(self, thing):
        inode = self.table.known_number(thing)
        assert inode is None or self.ever.get(inode, thing) == thing

    @invariant()
    def what_is_held_is_found(self):
        for inode, count in self.held.items():
            if count:
                assert self.table.entry(inode) == self.ever[inode]
        assert self.table.entry(ROOT) is self.root

    @invariant()
    def what_is_forgotten_takes_no_room(self):
        single = {i for i, count in self.held.items() if count and i < INDEX_LIMIT}
        slots = {i >> INDEX_BITS for i, count in self.held.items() if count and i >= INDEX_LIMIT}
        assert len(self.table) == 1 + len(single) + len(slots)
        for inode, count in self.held.items():
            if not count and (inode < INDEX_LIMIT or inode >> INDEX_BITS not in slots):
                with pytest.raises(StaleError):
                    self.table.entry(inode)


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=100, stateful_step_count=30)


def test_the_root_stays():
    table = InodeTable(Thing("root"))
    table.forget(ROOT, 1)
    table.forget(ROOT, 100)
    assert table.entry(ROOT) == Thing("root")
    assert table.number(Thing("root")) == ROOT


def test_a_number_comes_from_its_place():
    table = InodeTable(Thing("root"))
    first = table.number(Group("a").entry_at(0))
    assert first >> INDEX_BITS == 1
    assert table.number(Group("a").entry_at(5)) == first + 5
    assert table.number(Group("b").entry_at(5)) == (2 << INDEX_BITS) + 5


def test_an_equal_group_of_a_later_version_is_the_one_to_ask():
    @dataclass(frozen=True, eq=False)
    class Versioned(InodeGroup):
        version: int

        def entry_at(self, index):
            return Thing(f"{self.version}", index)

        def __eq__(self, other):
            return isinstance(other, Versioned)

        def __hash__(self):
            return 1

    table = InodeTable(Thing("root"))
    slot = table.slot(Versioned(1))
    assert table.slot(Versioned(2)) == slot
    assert table.entry(slot << INDEX_BITS) == Thing("2", 0)
    table.remember(slot << INDEX_BITS)
    table.forget(slot << INDEX_BITS, 1)
    assert len(table) == 1
    assert table.slot(Versioned(3)) == slot + 1


def test_when_slots_run_out_things_are_numbered_one_by_one(monkeypatch):
    monkeypatch.setattr(inodes, "SLOT_LIMIT", 3)
    table = InodeTable(Thing("root"))
    numbers = [table.number(Group(name).entry_at(7)) for name in "abcd"]
    assert [n >> INDEX_BITS for n in numbers] == [1, 2, 0, 0]
    assert len(set(numbers)) == 4
    for name, number in zip("abcd", numbers, strict=True):
        table.remember(number)
        assert table.entry(number) == Thing(name, 7, Group(name))
        assert table.known_number(Group(name).entry_at(7)) == number
        assert table.number(Group(name).entry_at(7)) == number
        table.forget(number, 1)
    assert len(table) == 1


def test_every_inode_fits_into_64_bits():
    assert (inodes.SLOT_LIMIT - 1) << INDEX_BITS | (INDEX_LIMIT - 1) == 2**64 - 1


@pytest.mark.parametrize("inode", [2, 1 << INDEX_BITS])
def test_what_the_kernel_should_not_know_is_stale_and_never_absent(inode):
    with pytest.raises(StaleError):
        InodeTable(Thing("root")).entry(inode)
