"""The foreign files that virtual chunks lie in: whether they are still what was referenced.

Each file is asked for once, however many chunks lie in it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.errors import (
    AccessDeniedError,
    ContainerNotAllowedError,
    CorruptionError,
    MissingObjectError,
    PreconditionFailedError,
    ZfuseError,
)
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns, RefKind
from zfuse.repo.at_once import at_once
from zfuse.repo.virtual import SourceInfo, UnallowedContainerError, VirtualChunkResolver
from zfuse.storage.base import Unmodified

I64 = npt.NDArray[np.int64]

_AT_ONCE: Final = 32
_NEVER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class BadSource:
    """Why chunks can not be read from the file at *location*, and their *rows* in the columns.

    ``problem`` is what ``error`` says, without the location in front.
    """

    location: str
    error: ZfuseError
    rows: I64

    @property
    def problem(self) -> str:
        """What is wrong, as one line."""
        if isinstance(self.error, MissingObjectError):
            return "gone"
        start = f"{self.location}: ", f"{self.location} "
        return str(self.error).removeprefix(start[0]).removeprefix(start[1])


class Sources:
    """What is known of the files that virtual chunks lie in.

    With *ask* their stores are asked, else only the locations are looked at.
    """

    def __init__(self, resolver: VirtualChunkResolver, *, ask: bool, jobs: int = _AT_ONCE) -> None:
        self._resolver = resolver
        self._ask = ask
        self._jobs = jobs
        self._known: dict[bytes, SourceInfo | ZfuseError | None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def unallowed(self) -> Mapping[str, int]:
        """Return how many could not be asked for, by the prefix that nobody allowed."""
        errors = (e for e in self._known.values() if isinstance(e, UnallowedContainerError))
        return Counter(error.prefix for error in errors)

    async def bad(self, columns: RefColumns) -> Iterator[BadSource]:
        """Return why virtual chunks among *columns*, which are not packed, can not be read.

        Raises:
            StorageError: a store does not answer.
        """
        rows = np.flatnonzero(columns.kinds == RefKind.VIRTUAL)
        texts, files = distinct(columns.texts.take(rows))
        new = [text for text in texts if text not in self._known]
        if self._ask:
            await at_once((partial(self._ask_for, text) for text in new), most=self._jobs)
        else:
            self._known.update((text, self._fault(text)) for text in new)
        return self._judge(columns, rows, texts, files)

    def _judge(
        self, columns: RefColumns, rows: I64, texts: list[bytes], files: I64
    ) -> Iterator[BadSource]:
        known = [self._known[text] for text in texts]
        errors = [info if isinstance(info, ZfuseError) else None for info in known]
        lost = np.array([error is not None for error in errors], np.bool_)[files]
        yield from _grouped(rows[lost], files[lost], texts, errors)
        if not self._ask:
            return
        fine = ~lost
        sizes = np.array([i.size if isinstance(i, SourceInfo) else _NEVER for i in known], np.int64)
        # Sums of what is beyond all bounds would begin again at 0.
        far = np.uint64(2**62)
        ends = np.minimum(columns.offsets[rows], far) + np.minimum(columns.lengths[rows], far)
        ends = ends.astype(np.int64)
        short = fine & (sizes[files] < ends)
        too_short = [
            CorruptionError(f"it has {size} bytes, chunks lie behind that")
            for size in sizes.tolist()
        ]
        yield from _grouped(rows[short], files[short], texts, too_short)
        yield from self._changed(columns.take(rows[fine]), rows[fine], texts, files[fine])

    def _changed(
        self, columns: RefColumns, rows: I64, texts: list[bytes], files: I64
    ) -> Iterator[BadSource]:
        """Yield the sources that are not what their references say."""
        etags, tags = distinct(columns.etags)
        whole = np.stack([files, tags, columns.last_modified.astype(np.int64)], axis=1)
        wanted, groups = np.unique(whole, axis=0, return_inverse=True)
        groups = groups.reshape(-1)
        order = np.argsort(groups, kind="stable")
        parts = np.split(rows[order], np.flatnonzero(np.diff(groups[order])) + 1)
        for (file, tag, modified), part in zip(wanted.tolist(), parts, strict=False):
            info, location = self._known[texts[file]], texts[file].decode()
            etag = etags[tag].decode() if columns.etags.sizes[_first(tags, tag)] >= 0 else None
            assert isinstance(info, SourceInfo)
            try:
                info.check(location, Unmodified(etag, modified or None))
            except PreconditionFailedError as exc:
                yield BadSource(location, exc, part)

    async def _ask_for(self, text: bytes) -> None:
        try:
            self._known[text] = await self._resolver.head(text.decode())
        except (
            MissingObjectError,
            ContainerNotAllowedError,
            CorruptionError,
            AccessDeniedError,
        ) as exc:
            self._known[text] = exc

    def _fault(self, text: bytes) -> ZfuseError | None:
        """Return what is wrong with a location, without asking anybody."""
        try:
            self._resolver.locate(text.decode())
        except (ContainerNotAllowedError, CorruptionError) as exc:
            return exc
        return None


def _first(numbers: I64, wanted: int) -> int:
    return int(np.argmax(numbers == wanted))


def _grouped(
    rows: I64, files: I64, texts: list[bytes], errors: Sequence[ZfuseError | None]
) -> Iterator[BadSource]:
    if len(rows) == 0:
        return
    order = np.argsort(files, kind="stable")
    edges = np.flatnonzero(np.diff(files[order])) + 1
    for part in np.split(order, edges):
        file = int(files[part[0]])
        error = errors[file]
        assert error is not None
        yield BadSource(texts[file].decode(), error, rows[part])


def distinct(texts: Ragged) -> tuple[list[bytes], I64]:
    """Return the different strings of a column, b"" for none, and for each row which it has."""
    strings, numbers = texts.unique()
    places: dict[bytes, int] = {}
    found = [places.setdefault(text or b"", len(places)) for text in strings]
    return list(places), np.array(found, np.int64)[numbers]
