"""Histories drawn as lanes, as ``git log --graph`` does."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Margin:
    """What stands in front of a snapshot: lines of their own first, then that of its line."""

    above: tuple[str, ...]
    beside: str


@dataclass(slots=True)
class Lanes:
    """The lanes between two snapshots; each waits for the parent that it leads to."""

    waiting: list[str | None] = field(default_factory=list)

    def draw(self, snapshot: str, parent: str | None) -> Margin:
        """Return the margin of *snapshot*, whose lane goes on to *parent* (None: it ends)."""
        above = [*self._close_ended(), *self._join(snapshot)]
        if snapshot not in self.waiting:
            self.waiting.append(snapshot)
        mine = self.waiting.index(snapshot)
        marks = ["*" if lane == mine else "|" for lane in range(len(self.waiting))]
        self.waiting[mine] = parent
        return Margin(tuple(above), " ".join(marks) + " ")

    def _close_ended(self) -> Iterator[str]:
        """Let the lanes right of one that ended move to the left."""
        while None in self.waiting:
            ended = self.waiting.index(None)
            if ended < len(self.waiting) - 1:
                yield self._line(ended + 1)
            del self.waiting[ended]

    def _join(self, snapshot: str) -> Iterator[str]:
        """Lead all lanes that wait for *snapshot* into the first of them."""
        while self.waiting.count(snapshot) > 1:
            first = self.waiting.index(snapshot)
            lane = self.waiting.index(snapshot, first + 1)
            yield self._line(lane, across=first + 1)
            del self.waiting[lane]

    def _line(self, lane: int, *, across: int | None = None) -> str:
        """Return the line on which *lane* and those right of it go one to the left.

        *lane* goes on to the left of the lane *across*, below those in between.
        """
        line = [" "] * (2 * len(self.waiting))
        for n, waiting in enumerate(self.waiting):
            if n < lane and waiting is not None:
                line[2 * n] = "|"
            elif n >= lane:
                line[2 * n - 1] = "/"
        for n in range(2 * (across or lane) - 1, 2 * lane - 1, 2):
            line[n] = "_"
        return "".join(line).rstrip()


def draw_history(history: Iterable[tuple[str, str | None]]) -> Iterator[Margin]:
    """Yield the margin of each snapshot of *history*: ids with those of parents, newest first."""
    lanes = Lanes()
    for snapshot, parent in history:
        yield lanes.draw(snapshot, parent)
