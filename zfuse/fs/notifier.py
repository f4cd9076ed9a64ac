"""Taking names from the kernel, the other half of speaking FUSE."""

import contextlib
import logging
import queue
import threading
from collections.abc import Iterable

import pyfuse3
import trio
from pyfuse3 import FileNameT, InodeT

from zfuse.fs.entry import Inode

log = logging.getLogger(__name__)


class Notifier:
    """Takes names from the kernel, in a thread of its own.

    The kernel answers only when whoever looks into that directory is done, and he may be
    waiting for the trio thread: calling from there would deadlock.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Inode, str] | trio.Event | None] = queue.SimpleQueue()
        self._is_closing = False
        self._token = trio.lowlevel.current_trio_token()
        # A daemon thread: after an abort the kernel may never answer.
        self._thread = threading.Thread(target=self._run, name="zfuse-notifier", daemon=True)
        self._thread.start()

    async def invalidate(self, names: Iterable[tuple[Inode, str]]) -> None:
        """Return when the kernel has let go of all *names*."""
        done = trio.Event()
        for item in names:
            self._queue.put(item)
        self._queue.put(done)
        await done.wait()

    def close(self) -> None:
        """Stop the thread; what is still in its queue no longer matters."""
        self._is_closing = True
        self._queue.put(None)
        # Notifying needs the session, which ends next; the kernel may never answer, though.
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, trio.Event):
                with contextlib.suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(item.set)
                continue
            if self._is_closing:
                continue
            inode, name = item
            try:
                pyfuse3.invalidate_entry(
                    InodeT(inode), FileNameT(name.encode("utf-8", "surrogateescape"))
                )
            except FileNotFoundError:
                pass  # the kernel did not know the name
            except OSError as exc:
                log.warning("the kernel kept the name %r: %s", name, exc)
