"""Numbers for entries, and which of them the kernel still knows.

An inode number is never used for two things during a mount. Most entries are numbered one
after the other and kept until the kernel forgets them. Chunks are not kept: the number of a
chunk is computed from a *slot*, which stands for a group of entries, and an index in it:

    bit 63..40  slot, 0 for entries that are numbered one by one
    bit 39..0   index in the slot, or the number

so that a million chunk files cost the kernel's memory, not ours. Slots are not used again
either; should a mount live so long that they run out, chunks are numbered one by one.
"""

from dataclasses import dataclass
from typing import Final

from zfuse.errors import StaleError
from zfuse.fs.entry import Entry, Inode, InodeGroup

ROOT: Final = Inode(1)
INDEX_BITS: Final = 40
INDEX_LIMIT: Final = 1 << INDEX_BITS
SLOT_LIMIT: Final = 1 << 64 - INDEX_BITS


@dataclass(slots=True)
class _Known:
    entry: Entry
    lookups: int = 0


@dataclass(slots=True)
class _Slot:
    group: InodeGroup
    lookups: int = 0


class InodeTable:
    """Gives entries their numbers and finds them again."""

    def __init__(self, root: Entry) -> None:
        self._known: dict[int, _Known] = {ROOT: _Known(root, 1)}
        self._numbers: dict[Entry, int] = {root: ROOT}
        self._slots: dict[int, _Slot] = {}
        self._slot_numbers: dict[InodeGroup, int] = {}
        self._next = ROOT + 1
        self._next_slot = 1

    def __len__(self) -> int:
        """Return how many entries and slots are held in memory."""
        return len(self._known) + len(self._slots)

    def number(self, entry: Entry) -> Inode:
        """Return the inode of *entry*, a new one if it has none yet."""
        place = entry.place
        if place is not None:
            group, index = place
            slot = self.slot(group)
            if slot is not None:
                return Inode(slot << INDEX_BITS | index)
        number = self._numbers.get(entry)
        if number is None:
            number = self._next
            self._next += 1
            self._numbers[entry] = number
            self._known[number] = _Known(entry)
        return Inode(number)

    def known_number(self, entry: Entry) -> Inode | None:
        """Return the inode of *entry* if it may be known to the kernel."""
        place = entry.place
        if place is not None and (slot := self._slot_numbers.get(place[0])) is not None:
            return Inode(slot << INDEX_BITS | place[1])
        number = self._numbers.get(entry)
        return None if number is None else Inode(number)

    def slot(self, group: InodeGroup) -> int | None:
        """Return the slot of *group*, which becomes the one to ask for the slot's entries.

        None if it has none, and there is none left.
        """
        number = self._slot_numbers.get(group)
        if number is None:
            if self._next_slot == SLOT_LIMIT:
                return None
            number = self._next_slot
            self._next_slot += 1
            self._slots[number] = _Slot(group)
        else:
            # An equal group of a later version: its manifests are likelier to be in memory.
            del self._slot_numbers[group]
            self._slots[number].group = group
        self._slot_numbers[group] = number
        return number

    def entry(self, inode: Inode) -> Entry:
        """Return what *inode* stands for.

        Raises:
            StaleError: nothing the kernel should still know of.
        """
        try:
            if inode < INDEX_LIMIT:
                return self._known[inode].entry
            slot = self._slots[inode >> INDEX_BITS]
        except KeyError:
            raise StaleError(f"inode {inode} was forgotten") from None
        return slot.group.entry_at(inode & (INDEX_LIMIT - 1))

    def remember(self, inode: Inode) -> None:
        """Count one more reference that the kernel holds."""
        if inode < INDEX_LIMIT:
            self._known[inode].lookups += 1
        else:
            self._slots[inode >> INDEX_BITS].lookups += 1

    def forget(self, inode: Inode, count: int) -> None:
        """Drop *count* of the kernel's references, and what nothing refers to any more."""
        if inode >= INDEX_LIMIT:
            number = inode >> INDEX_BITS
            slot = self._slots[number]
            slot.lookups -= count
            if slot.lookups <= 0:
                del self._slots[number], self._slot_numbers[slot.group]
            return
        known = self._known[inode]
        known.lookups -= count
        if known.lookups <= 0 and inode != ROOT:
            del self._known[inode], self._numbers[known.entry]
