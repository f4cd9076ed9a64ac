"""Histories as drawings."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import SnapshotInfo
from zfuse.repo.history_graph import draw_history

_DIGITS: Final = 8
_LONGEST: Final = 60
_LINE_HEIGHT: Final = 18
_CHARACTER_WIDTH: Final = 8


@dataclass(frozen=True, slots=True)
class Told:
    """A snapshot, and the branches and tags that are at it."""

    info: SnapshotInfo
    refs: Sequence[str]


class AncestryGraph:
    """Snapshots and what they came from, newest first, as lines to be printed.

    Notebooks show it as a picture.
    """

    def __init__(self, snapshots: Iterable[Told]) -> None:
        told = list(snapshots)
        pairs = [(str(t.info.id), _text(t.info.parent_id)) for t in told]
        self._lines: list[str] = []
        for each, margin in zip(told, draw_history(pairs), strict=True):
            self._lines += [*margin.above, margin.beside + _line(each)]

    def __repr__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _repr_svg_(self) -> str:
        """Return the drawing as a picture."""
        width = _CHARACTER_WIDTH * max(map(len, self._lines), default=0)
        height = _LINE_HEIGHT * (len(self._lines) + 1)
        texts = "".join(
            f'<text x="0" y="{_LINE_HEIGHT * n}">{html.escape(line)}</text>'
            for n, line in enumerate(self._lines, start=1)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' style="font-family: monospace; white-space: pre">{texts}</svg>'
        )


def _text(snapshot_id: SnapshotId | None) -> str | None:
    return None if snapshot_id is None else str(snapshot_id)


def _line(told: Told) -> str:
    refs = f"({', '.join(told.refs)}) " if told.refs else ""
    message = told.info.message.partition("\n")[0]
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 3] + "..."
    return f"{str(told.info.id)[:_DIGITS]} {refs}{message}"
