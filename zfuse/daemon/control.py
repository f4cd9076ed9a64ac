"""How the command line talks to the daemon of a mount: JSON lines over a Unix socket.

The socket lies in a directory that only the mounting user may enter. A link there is named
after the mount's device number, which the kernel tells for every mount and never gives to
two at once: so a client finds the socket without touching the mount, which may be dead.
Inside the mount ``.zfuse/socket`` leads to it too.

    request   {"command": "refresh", "arguments": {}}
    answer    {"result": {...}}  or  {"error": "one line", "exit_code": 75}
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

CALL_TIMEOUT_S: Final = 120.0
_REQUEST_MAX: Final = 1 << 20
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
    **arguments: Any,  # noqa: ANN401 - JSON
) -> dict[str, Any]:
    """Ask the daemon of *mount*, and return its answer; see ``call``."""
    gone = f"the daemon of the mount at {mount.path} is gone; end it: zfuse umount {mount.path}"
    request = json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout_s)
            link.connect(str(socket_path(mount)))
            link.sendall(request)
            with link.makefile("rb") as answers:
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
        raise ReportedError(answer["error"], answer["exit_code"])
    result: dict[str, Any] = answer["result"]
    return result


class ReportedError(ZfuseError):
    """An error that the daemon met; ``exit_code`` is that of the original."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # the one error that carries it


class ControlServer:
    """Answers the command line on behalf of one mount."""

    def __init__(self, path: Path, link: Path, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._link = link
        self._commands = commands

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
            await stream.send_all(await self._answer(line))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the caller left

    async def _answer(self, line: bytes) -> bytes:
        """Return the answer to a request; whatever goes wrong, the mount goes on."""
        try:
            command, arguments = self._parse(line)
            return _line({"result": await command(arguments)})
        except ZfuseError as exc:
            return _line({"error": str(exc), "exit_code": exc.exit_code})
        except Exception:
            log.exception("bug in a command, %r", line[:200])
            told = "this is a bug in zfuse; the daemon's log tells more"
            return _line({"error": told, "exit_code": 1})

    def _parse(self, line: bytes) -> tuple[Command, Mapping[str, Any]]:
        try:
            request = json.loads(line)
            command = self._commands.get(request["command"])
            arguments = request.get("arguments", {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            raise InvalidInputError(f"bad request: {exc!r}") from exc
        if command is None:
            raise InvalidInputError(f"this daemon knows no command {request['command']!r}")
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
