"""How the command line talks to the daemon of a mount: JSON lines over a Unix socket.

The socket lies in a directory that only the mounting user may enter. A link there is named
after the mount's device number, which the kernel tells for every mount and never gives to
two at once: so a client finds the socket without touching the mount, which may be dead.
Inside the mount ``.zfuse/socket`` leads to it too.

    request   {"command": "refresh", "arguments": {}}
    answer    {"result": {...}}  or  {"error": "one line", "exit_code": 75, "details": {...}}

Before the answer may come any number of lines ``{"progress": {...}}``; a command that takes
long sends one every few seconds, so that nobody takes the daemon for dead.
"""

import contextlib
import json
import logging
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from zfuse.daemon.mountinfo import MountPoint, find_mount
from zfuse.errors import InvalidInputError, NotMountedError, ZfuseError

log = logging.getLogger(__name__)

Command = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
Tell = Callable[[Mapping[str, Any]], None]
LongCommand = Callable[[Mapping[str, Any], Tell], Awaitable[Mapping[str, Any]]]
"""A command that tells how far it is."""

CALL_TIMEOUT_S: Final = 120.0
_REQUEST_MAX: Final = 1 << 20
_TELL_EVERY_S: Final = 0.2
_ALIVE_EVERY_S: Final = 10.0
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


def runtime_directory(uid: int) -> Path:
    """Return where the sockets of the user's mounts lie."""
    if uid == 0:
        return Path("/run/zfuse")
    session = Path(f"/run/user/{uid}")
    if session.is_dir():
        return session / "zfuse"
    return Path(tempfile.gettempdir()) / f"zfuse-{uid}"


def socket_path(mount: MountPoint) -> Path:
    """Return the link to the socket of a mount's daemon."""
    owner = os.geteuid() if mount.user_id is None else mount.user_id
    return runtime_directory(owner) / f"{mount.device.replace(':', '-')}.sock"


def call(path: Path, command: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Ask the daemon of the mount that *path* is in, and return its answer.

    Raises:
        NotMountedError: *path* is in no mount, or its daemon is gone.
        ZfuseError: what the daemon reported, with its exit code.
    """
    return call_mount(find_mount(path), command, **arguments)


def call_mount(
    mount: MountPoint,
    command: str,
    *,
    timeout_s: float = CALL_TIMEOUT_S,
    on_progress: Tell = lambda told: None,
    **arguments: Any,  # noqa: ANN401 - JSON
) -> dict[str, Any]:
    """Ask the daemon of *mount*, and return its answer; see ``call``.

    *on_progress* is called with what the daemon tells meanwhile; it may be silent for
    *timeout_s*.
    """
    gone = f"the daemon of the mount at {mount.path} is gone; end it: zfuse umount {mount.path}"
    request = json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout_s)
            link.connect(str(socket_path(mount)))
            link.sendall(request)
            with link.makefile("rb") as answers:
                line = answers.readline()
                while line.startswith(b'{"progress"'):
                    on_progress(json.loads(line)["progress"])
                    line = answers.readline()
    except TimeoutError as exc:
        raise NotMountedError(
            f"the daemon of {mount.path} gave no answer in {timeout_s:g} s;"
            f" zfuse umount --force {mount.path} ends it"
        ) from exc
    except OSError as exc:
        raise NotMountedError(gone) from exc
    if not line:
        raise NotMountedError(gone)
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise ReportedError(answer["error"], answer["exit_code"], answer.get("details", {}))
    result: dict[str, Any] = answer["result"]
    return result


class ReportedError(ZfuseError):
    """An error that the daemon met; exit code and details are those of the original."""

    def __init__(
        self, message: str, exit_code: int, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.details = details or {}
        self.exit_code = exit_code  # type: ignore[misc]  # the one error that carries it


class ControlServer:
    """Answers the command line on behalf of one mount."""

    def __init__(
        self,
        path: Path,
        link: Path,
        commands: Mapping[str, Command],
        long_commands: Mapping[str, LongCommand] | None = None,
        details: Callable[[ZfuseError], Mapping[str, Any]] = lambda exc: {},
    ) -> None:
        self._path = path
        self._link = link
        self._commands = commands
        self._long_commands = long_commands or {}
        self._details = details

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the socket takes calls."""
        _make_private(self._path.parent)
        for left_by_a_killed_daemon in (self._path, self._link):
            left_by_a_killed_daemon.unlink(missing_ok=True)
        listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(16)
            self._link.symlink_to(self._path.name)
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(listener)])
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)
            # The device number may belong to a newer mount by now.
            with contextlib.suppress(OSError):
                if self._link.readlink().name == self._path.name:
                    self._link.unlink()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            raw = stream.socket.getsockopt(
                trio.socket.SOL_SOCKET, trio.socket.SO_PEERCRED, _CREDENTIALS.size
            )
            uid = _CREDENTIALS.unpack(raw)[1]
            if uid not in {0, os.geteuid()}:
                return
            line = b""
            while not line.endswith(b"\n") and len(line) < _REQUEST_MAX:
                piece = await stream.receive_some()
                if not piece:
                    return
                line += piece
            await self._run(stream, line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the caller left

    async def _run(self, stream: trio.SocketStream, line: bytes) -> None:
        latest: list[Mapping[str, Any]] = []

        async def tell() -> None:
            since = 0.0
            while True:
                await trio.sleep(_TELL_EVERY_S)
                since += _TELL_EVERY_S
                if latest or since >= _ALIVE_EVERY_S:
                    told = latest.pop() if latest else {}
                    since = 0.0
                    # A caller that left does not end what it began.
                    with contextlib.suppress(trio.BrokenResourceError):
                        await stream.send_all(_line({"progress": told}))

        def note(told: Mapping[str, Any]) -> None:
            latest[:] = [told]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            answer = await self._answer(line, note)
            nursery.cancel_scope.cancel()
        await stream.send_all(answer)

    async def _answer(self, line: bytes, tell: Tell) -> bytes:
        """Return the answer to a request; whatever goes wrong, the mount goes on."""
        try:
            command, arguments = self._parse(line)
            long = self._long_commands.get(command)
            if long is not None:
                return _line({"result": await long(arguments, tell)})
            return _line({"result": await self._commands[command](arguments)})
        except ZfuseError as exc:
            told = {"error": str(exc), "exit_code": exc.exit_code, "details": self._details(exc)}
            return _line(told)
        except Exception:
            log.exception("bug in a command, %r", line[:200])
            said = "this is a bug in zfuse; the daemon's log tells more"
            return _line({"error": said, "exit_code": 1})

    def _parse(self, line: bytes) -> tuple[str, Mapping[str, Any]]:
        try:
            request = json.loads(line)
            command = str(request["command"])
            arguments = request.get("arguments", {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            raise InvalidInputError(f"bad request: {exc!r}") from exc
        if command not in self._commands and command not in self._long_commands:
            raise InvalidInputError(f"this daemon knows no command {command!r}")
        return command, arguments


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise InvalidInputError(
            f"{directory} is open to other users; remove it, or: chmod 700 {directory}"
        )
