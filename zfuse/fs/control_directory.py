"""``.zfuse/``: files that say what the mount is doing, and the way to its daemon.

None of them asks the network. They are made when opened, so they are read past the
kernel's page cache.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zfuse.fs.entry import (
    BytesContent,
    Caching,
    Content,
    Directory,
    Entry,
    File,
    FixedListing,
    Link,
    Listing,
)


@dataclass(frozen=True)
class ControlDirectory(Directory):
    """The control files: *reports* by name, each made by a call, and the socket's address."""

    reports: Mapping[str, Callable[[], bytes]] = field(compare=False, repr=False)
    socket: str = field(compare=False)
    since_ns: int

    @property
    def mtime_ns(self) -> int:
        """When the mount was made."""
        return self.since_ns

    @property
    def caching(self) -> Caching:
        """Nothing changes but the contents."""
        return Caching.FOREVER

    def describe(self) -> str:
        """Return the path."""
        return "/.zfuse"

    async def lookup(self, name: str) -> Entry | None:
        """Return a control file."""
        if name == "socket":
            return SocketLink(self.socket, self.since_ns)
        if name not in self.reports:
            return None
        return ReportFile(name, self.reports[name], self.since_ns)

    async def listing(self) -> Listing:
        """Return the control files."""
        names = [*self.reports, "socket"]
        entries = [(name, await self.lookup(name)) for name in names]
        return FixedListing([(name, entry) for name, entry in entries if entry is not None])


@dataclass(frozen=True)
class ReportFile(File):
    """A text that is written when somebody opens it."""

    name: str
    report: Callable[[], bytes] = field(compare=False, repr=False)
    since_ns: int

    @property
    def mtime_ns(self) -> int:
        """When the mount was made."""
        return self.since_ns

    @property
    def caching(self) -> Caching:
        """Never: it differs at each look."""
        return Caching.NEVER

    async def size(self) -> int:
        """Return the length that the text would have now."""
        return len(self.report())

    async def open(self) -> Content:
        """Return the text as of now."""
        return BytesContent(self.report())

    def describe(self) -> str:
        """Return the path."""
        return f"/.zfuse/{self.name}"


@dataclass(frozen=True)
class SocketLink(Link):
    """Leads to the daemon's Unix socket: connect(2) follows it."""

    path: str
    since_ns: int

    @property
    def target(self) -> str:
        """Where the socket is."""
        return self.path

    @property
    def mtime_ns(self) -> int:
        """When the mount was made."""
        return self.since_ns

    @property
    def caching(self) -> Caching:
        """For ever."""
        return Caching.FOREVER
