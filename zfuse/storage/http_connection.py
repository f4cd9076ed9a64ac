"""Connections of zfuse.storage.http_pool, and those that are kept for the next request."""

from collections import deque
from dataclasses import dataclass
from typing import Final

import trio

_KEPT: Final = 256
_KEPT_S: Final = 15.0
"""Servers and firewalls forget idle connections, some of them without a word, after 20 s and up."""

Origin = tuple[str, str, int, int]
"""Scheme, host, port, and which TLS settings."""


class BrokenError(Exception):
    """The connection broke; ``unanswered`` if nothing had been received on it yet."""

    def __init__(self, why: str, *, unanswered: bool = False) -> None:
        super().__init__(why)
        self.unanswered = unanswered


@dataclass(frozen=True, slots=True)
class Connection:
    """A socket, with TLS around it or not."""

    plain: trio.SocketStream
    secure: "trio.SSLStream[trio.SocketStream] | None"

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of *data*."""
        try:
            await (self.secure or self.plain).send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise BrokenError(str(exc.__cause__ or exc), unanswered=True) from exc

    async def receive(self, size: int) -> bytes:
        """Return up to *size* bytes, none at the end."""
        try:
            return bytes(await (self.secure or self.plain).receive_some(size))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise BrokenError(str(exc.__cause__ or exc)) from exc

    async def receive_into(self, view: memoryview) -> int:
        """Fill the beginning of *view* and return how much of it, 0 at the end."""
        if self.secure is not None:
            data = await self.receive(len(view))
            view[: len(data)] = data
            return len(data)
        try:
            return await self.plain.socket.recv_into(view)
        except OSError as exc:
            raise BrokenError(str(exc)) from exc

    def is_idle(self) -> bool:
        """Tell whether nothing has arrived, not even the other side's farewell."""
        return not self.plain.socket.is_readable()

    def close(self) -> None:
        """Close it, without TLS's farewell, which would wait for the other side."""
        self.plain.socket.close()


class KeptConnections:
    """Open connections that nobody uses; closed when they have been here for 15 seconds.

    That happens with the next request to any host, so a store that is not used any more may
    keep a few descriptors, 256 at the most.
    """

    def __init__(self) -> None:
        self._kept: dict[Origin, deque[tuple[float, Connection]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def take(self, origin: Origin) -> Connection | None:
        """Return the connection to *origin* that was used last, None if there is none."""
        self._forget_the_old()
        while connections := self._kept.get(origin):
            _, connection = connections.pop()
            if not connections:
                del self._kept[origin]
            # TLS may have sent tickets, so there only a try can tell.
            if connection.secure is not None or connection.is_idle():
                return connection
            connection.close()
        return None

    def put(self, origin: Origin, connection: Connection) -> None:
        """Keep *connection*, in the place of the one unused for longest if there are too many."""
        self._forget_the_old()
        if len(self) >= _KEPT:
            self._close_first(min(self._kept, key=lambda origin: self._kept[origin][0][0]))
        self._kept.setdefault(origin, deque()).append((trio.current_time(), connection))

    def close(self, origin: Origin) -> None:
        """Close the connections to *origin*: one of them is dead, so the others may well be."""
        for _, connection in self._kept.pop(origin, ()):
            connection.close()

    def close_all(self) -> None:
        """Close every connection."""
        for origin in list(self._kept):
            self.close(origin)

    def _forget_the_old(self) -> None:
        oldest = trio.current_time() - _KEPT_S
        for origin, connections in list(self._kept.items()):
            while connections and connections[0][0] < oldest:
                self._close_first(origin)

    def _close_first(self, origin: Origin) -> None:
        connections = self._kept[origin]
        connections.popleft()[1].close()
        if not connections:
            del self._kept[origin]
