"""Assemble one mount, run it, and take it apart again."""

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyfuse3
import trio

from zfuse.daemon.assemble import assembled
from zfuse.daemon.control import (
    Command,
    ControlServer,
    LongCommand,
    Tell,
    runtime_directory,
    socket_path,
)
from zfuse.daemon.memory import keep_freed_memory
from zfuse.daemon.mountinfo import MountPoint, find_mount
from zfuse.daemon.report import MountReport, Occupancy
from zfuse.daemon.sessions import SessionCommands, details_of
from zfuse.daemon.settings import MountSettings
from zfuse.errors import InvalidInputError, ReadOnlyError, ZfuseError
from zfuse.fs.control_directory import ControlDirectory
from zfuse.fs.entry import Directory
from zfuse.fs.filesystem import FileSystem
from zfuse.fs.fuse import FuseOperations, Ownership
from zfuse.fs.hierarchy import NodeDirectory
from zfuse.fs.notifier import Notifier
from zfuse.fs.refs_directory import RepositoryDirectory
from zfuse.fs.tree import Trees
from zfuse.fs.writable import WritableBranches, sessions_directory
from zfuse.repo.ref import RefKind
from zfuse.repo.repository import Repository

log = logging.getLogger(__name__)

MAX_REQUESTS: Final = 4096
"""Requests in work at once; pyfuse3's own 99 let a hundred slow reads freeze everything."""

IDLE_WORKERS: Final = 32
"""Workers that wait for requests; with fewer, each burst makes and frees 1 MiB buffers."""

MAX_BACKGROUND: Final = 1024
"""Page-cache reads that the kernel keeps under way; its own 12 freeze the mount likewise."""

READ_AHEAD: Final = 256 << 10
"""Bytes that the kernel asks for at a time, and at most too many behind an inner chunk of a shard.

With 1 MiB, two inner chunks would cost more than the 1 MiB that they may.
"""

ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that unmount; a second one changes nothing."""

_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
_DEVICES: Final = Path("/sys/class/bdi")


Ready = Callable[[Sequence[str]], None]


def serve(settings: MountSettings, mountpoint: Path, *, ready: Ready) -> None:
    """Mount what *settings* say at *mountpoint*, and return once it is unmounted.

    *ready* is called when the mount answers, with the branches on which changes of an earlier
    mount were found. SIGTERM, SIGINT and SIGHUP unmount.

    Raises:
        ZfuseError: the repository cannot be opened, or the directory not be mounted at.
    """
    # Two threads share the interpreter, this one and the object stores' event loop: the
    # default of 5 ms is how long one of them may have to wait for the other.
    sys.setswitchinterval(0.0005)
    keep_freed_memory()
    # As the kernel will name it. Once mounted, resolving a link would ask this very process.
    mountpoint = mountpoint.resolve()
    try:
        trio.run(_serve, settings, mountpoint, ready)
    except BaseExceptionGroup as group:
        deliberate, other = group.split(ZfuseError)
        if deliberate is None or other is not None:
            raise
        raise _first(deliberate) from group


async def _serve(settings: MountSettings, mountpoint: Path, ready: Ready) -> None:
    async with assembled(settings) as parts, trio.open_nursery() as background:
        trees = Trees(parts.repository)
        writable = _writable(settings, trees, background)
        root = await _root(settings, trees, writable, background)

        def occupancy() -> Occupancy:
            return Occupancy(file_system.open_handles, file_system.known_inodes)

        report = MountReport(settings, mountpoint, parts, trees, occupancy, writable)
        socket = runtime_directory(os.geteuid()) / f"{os.getpid()}.sock"
        control = ControlDirectory(report.files(), str(socket), report.since_ns)
        file_system = FileSystem(root, control, trees, background, writable)
        operations = FuseOperations(
            file_system,
            _ownership(settings),
            deadline_s=settings.deadline_s,
            room=settings.journal if settings.rw else None,
        )
        with (
            _ending_signals() as signals,
            _mounted(operations, mountpoint, _options(settings, parts.repository)),
        ):
            mount, settled = find_mount(mountpoint), trio.Event()
            async with _notifier() as notifier, trio.open_nursery() as loop:
                refresh = _Refresh(file_system, notifier, parts.repository)
                short = dict(_commands(report, settled))
                long: dict[str, LongCommand] = {"refresh": refresh.command}
                if writable is not None:
                    sessions = SessionCommands(writable, file_system, notifier)
                    short |= sessions.short()
                    long |= sessions.long()
                server = ControlServer(socket, socket_path(mount), short, long, details_of)
                await background.start(server.run)
                if settings.follow_s is not None:
                    background.start_soon(refresh.follow, settings.follow_s)
                loop.start_soon(pyfuse3.main, IDLE_WORKERS, MAX_REQUESTS)
                await _settle(mount, operations)
                # Not before: who waits for the first answer would wait for ever.
                settled.set()
                background.start_soon(_terminate_on, signals)
                log.info("%s is mounted at %s", settings.repository, mountpoint)
                ready([] if writable is None else writable.recovered())
        background.cancel_scope.cancel()
    if writable is not None:
        writable.close()
    log.info("%s is unmounted", mountpoint)


def _writable(
    settings: MountSettings, trees: Trees, nursery: trio.Nursery
) -> WritableBranches | None:
    """Return the sessions of the mount, None where nothing can be written."""
    if not settings.rw:
        return None
    if settings.ref is not None and settings.ref.kind is not RefKind.BRANCH:
        raise InvalidInputError(
            f"{settings.ref} can only be read; leave out --rw, or mount a branch"
        )
    if trees.repository.is_read_only:
        raise ReadOnlyError("the repository is set to read-only; leave out --rw")
    assert settings.journal is not None
    try:
        settings.journal.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidInputError(
            f"changes can not be kept in {settings.journal}: {exc.strerror};"
            " say where: --journal DIR"
        ) from exc
    return WritableBranches(trees, sessions_directory(settings.journal, trees.repository), nursery)


async def _root(
    settings: MountSettings,
    trees: Trees,
    writable: WritableBranches | None,
    nursery: trio.Nursery,
) -> Directory:
    """Return what the mount point itself shows."""
    if settings.ref is None:
        if writable is not None:
            await writable.recover_all()
        return RepositoryDirectory(trees, nursery, writable)
    if writable is not None:
        session = await writable.get(settings.ref.name, is_mount_root=True)
        assert session.root is not None
        return session.root
    tree = await trees.get(settings.ref, is_mount_root=True)
    await tree.version()  # a damaged one is an error of the mount, not of its first reader
    return NodeDirectory(tree, "/", nursery)


def _ownership(settings: MountSettings) -> Ownership:
    return Ownership(
        os.geteuid() if settings.uid is None else settings.uid,
        os.getegid() if settings.gid is None else settings.gid,
        settings.umask or 0,
    )


def _options(settings: MountSettings, repository: Repository) -> set[str]:
    # libfuse takes ASCII, with a comma and a backslash escaped.
    name = quote(repository.storage.url, safe="/:@!$&'()*+;=~ ", errors="surrogateescape")
    options = {f"fsname={name}", "subtype=zfuse", "default_permissions"}
    if not settings.rw:
        options.add("ro")
    return options | {"allow_other"} if settings.allow_other else options


@contextlib.contextmanager
def _mounted(operations: FuseOperations, mountpoint: Path, options: set[str]) -> Iterator[None]:
    try:
        pyfuse3.init(operations, str(mountpoint), options)
    except RuntimeError as exc:
        raise InvalidInputError(
            f"the kernel refused to mount at {mountpoint}; zfuse doctor looks for the reason"
        ) from exc
    try:
        yield
    finally:
        pyfuse3.close(unmount=True)


@asynccontextmanager
async def _notifier() -> AsyncIterator[Notifier]:
    notifier = Notifier()
    try:
        yield notifier
    finally:
        notifier.close()


@contextlib.contextmanager
def _ending_signals() -> Iterator[AsyncIterator[int]]:
    """Give the signals that unmount, which do nothing else until the process has ended."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # as it is again when the mount is gone
    with trio.open_signal_receiver(*ENDING_SIGNALS) as signals:
        yield signals


async def _terminate_on(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        log.info("unmounting on %s", signal.Signals(number).name)
        pyfuse3.terminate()


async def _settle(mount: MountPoint, operations: FuseOperations) -> None:
    """Wait until the mount answers, then lift the kernel's limits where that is allowed."""
    # In a thread: the question comes back to this very loop. Before it is answered, the
    # limits would be overwritten by what the kernel and libfuse agree on.
    await trio.to_thread.run_sync(os.stat, mount.path)
    connection = _CONNECTIONS / mount.device.partition(":")[2]
    _set(connection / "max_background", MAX_BACKGROUND)
    _set(connection / "congestion_threshold", MAX_BACKGROUND * 3 // 4)
    if _set(_DEVICES / mount.device / "read_ahead_kb", READ_AHEAD >> 10):
        operations.read_ahead = READ_AHEAD


def _set(limit: Path, value: int) -> bool:
    try:
        limit.write_text(str(value))
    except OSError as exc:
        log.debug("%s stays as it is: %s", limit, exc)
        return False
    return True


class _Refresh:
    """Lets branches move, and has the kernel look up what that changed."""

    def __init__(self, file_system: FileSystem, notifier: Notifier, repository: Repository) -> None:
        self._file_system = file_system
        self._notifier = notifier
        self._repository = repository
        # Whoever refreshes while another does returns when the kernel has heard of it too.
        self._turn = trio.Lock()

    def _refs(self) -> set[str]:
        branches, tags = self._repository.branches, self._repository.tags
        return {*(f"branch/{name}" for name in branches), *(f"tag/{name}" for name in tags)}

    async def once(self) -> Mapping[str, Any]:
        """Refresh and return what moved, and which branches and tags are new or gone.

        Raises:
            ZfuseError: a branch did not move; others may have.
        """
        async with self._turn:
            before = self._refs()
            refreshed = await self._file_system.refresh()
            after = self._refs()
            await self._notifier.invalidate(refreshed.stale)
        if refreshed.errors:
            raise refreshed.errors[0]
        return {
            "moved": [
                {
                    "branch": move.branch,
                    "before": str(move.before),
                    "after": None if move.after is None else str(move.after),
                }
                for move in refreshed.moved
            ],
            "new": sorted(after - before),
            "gone": sorted(before - after),
        }

    async def command(self, arguments: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
        """Do it for the command line; it may wait for a sync that takes long."""
        return await self.once()

    async def follow(self, period_s: float) -> None:
        """Refresh every *period_s* seconds, for ever."""
        while True:
            await trio.sleep(period_s)
            try:
                await self.once()
            except ZfuseError as exc:
                log.warning("following failed, the next try is in %g s: %s", period_s, exc)
            except Exception:
                log.exception("bug while following, the next try is in %g s", period_s)


def _commands(report: MountReport, settled: trio.Event) -> Mapping[str, Command]:
    async def status(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return report.status()

    async def shutdown(_: Mapping[str, Any]) -> Mapping[str, Any]:
        await settled.wait()
        pyfuse3.terminate()
        return {}

    async def config(_: Mapping[str, Any]) -> Mapping[str, Any]:
        settings: dict[str, Any] = json.loads(json.dumps(report.config(), default=str))
        return settings

    return {"status": status, "config": config, "shutdown": shutdown}


def _first(error: ZfuseError | BaseExceptionGroup[ZfuseError]) -> ZfuseError:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
