"""How far long work on a repository is, for a terminal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zfuse.cli.ticker import ticking


class Progress:
    """What was told last; ``tell`` is handed to the work."""

    def __init__(self) -> None:
        self._line = ""

    @classmethod
    @asynccontextmanager
    async def shown(cls) -> AsyncIterator["Progress"]:
        """Show it on standard error during the block, if that is a terminal."""
        progress = cls()
        async with ticking(lambda: progress._line):
            yield progress

    def tell(self, what: str, done: int, whole: int) -> None:
        """Note that *done* of *whole* are done, where 0 stands for nobody knows how many."""
        self._line = f"{what}: {done} of {whole}" if whole else f"{what}: {done}"
