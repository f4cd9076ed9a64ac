"""Telling systemd that the mount is ready, alive, and stopping.

Protocol: sd_notify(3). Datagrams of ``KEY=value`` lines to the socket that ``NOTIFY_SOCKET``
names; a name that starts with ``@`` is in the abstract namespace.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import trio

_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Notifier:
    """Where to report to, None for nowhere, and how often to say that all is well.

    ``watchdog_s`` is the time after which systemd gives up on a silent service, None
    where it does not watch.
    """

    address: str | None
    watchdog_s: float | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Self:
        """Read what systemd put into the environment of the process *pid*."""
        watched = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        usec = environment.get("WATCHDOG_USEC", "") if watched else ""
        return cls(
            environment.get("NOTIFY_SOCKET") or None,
            int(usec) / 1e6 if usec.isdecimal() and int(usec) else None,
        )

    def notify(self, state: str, *, wait_s: float = _PATIENCE_S) -> None:
        """Send *state* (``READY=1``); where nobody listens, do nothing.

        A listener that does not read what others sent before is waited for *wait_s* seconds.
        """
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(wait_s)
            try:
                out.sendto(state.encode(), name)
            except OSError:
                return  # systemd went away, or is stuck; a mount goes on without it

    async def keep_alive(self) -> None:
        """Say that the event loop runs, twice per watchdog period, for ever."""
        while self.watchdog_s is not None:
            self.notify("WATCHDOG=1", wait_s=0)  # with as many unread, one less does no harm
            await trio.sleep(self.watchdog_s / 2)
