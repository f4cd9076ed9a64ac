"""``zfuse umount``."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from zfuse.cli import output
from zfuse.cli.sessions import explained, settle_changes
from zfuse.daemon.control import call_mount, socket_path
from zfuse.daemon.leftovers import clear_leftovers
from zfuse.daemon.settings import mount_file
from zfuse.daemon.unmount import daemon_of, mount_at, unmount, wait_for_end
from zfuse.errors import BusyError, InvalidInputError

_BRIEFLY_S: Final = 1.0
_PATIENCE_S: Final = 30.0


@click.command(epilog="Example: zfuse umount /mnt/repo")
@click.argument("directory", metavar="DIR", required=False)
@click.option("--name", metavar="NAME", help="Take DIR from /etc/zfuse/mounts.d/NAME.toml.")
@click.option(
    "--force",
    is_flag=True,
    help="Even if it is in use or its daemon hangs: who uses it loses it.",
)
@click.option("--sync", is_flag=True, help="Commit what was written first.")
@click.option("--keep", is_flag=True, help="Keep what was written for later.")
@click.option("--discard", is_flag=True, help="Forget what was written.")
@click.option("-m", "--message", metavar="TEXT", help="What the commit does, for --sync.")
@output.as_json
def command(
    *,
    directory: str | None,
    name: str | None,
    force: bool,
    message: str | None,
    as_json: bool,
    **choices: bool,
) -> None:
    """End the mount at DIR, and wait until its daemon has ended.

    A mount in use stays, and the processes that use it are named. One whose daemon is gone
    is cleared away. Changes that are not committed are kept, and are there again after the
    next zfuse mount --rw, unless told otherwise.
    """
    changes = _choice(choices)
    _check(force=force, changes=changes, message=message)
    if not directory:
        if name is None:
            raise InvalidInputError("say which mount to end: zfuse umount DIR")
        directory = str(mount_file(name)["mountpoint"])
    mount = mount_at(Path(directory))
    pid = daemon_of(mount)
    kept: list[str] = []
    if pid is not None and not force:
        with explained(as_json=as_json, mountpoint=str(mount.path), daemon_ended=False):
            kept = settle_changes(mount, changes, message)
    journal = call_mount(mount, "config")["journal"] if kept else ""
    os.chdir("/")  # this process shall not be what keeps the mount busy
    unmount(mount, lazy=force)
    # Detached, the mount lives on for who uses it, and so does its daemon.
    clear_leftovers(socket_path(mount).parent)
    ended = pid is None or wait_for_end(pid, _BRIEFLY_S if force else _PATIENCE_S)
    if not ended:
        message = f"{mount.path} is unmounted, but its daemon (pid {pid}) goes on"
        if not force:
            raise BusyError(f"{message}; see its log, or: kill {pid}")
        print(f"zfuse: {message} until nobody uses it; to end it: kill {pid}", file=sys.stderr)
    if as_json:
        told = {"mountpoint": str(mount.path), "pid": pid, "daemon_ended": ended, "kept": kept}
        output.print_json(told)
    elif kept:
        names = ", ".join(output.plain(branch) for branch in kept)
        where = output.plain(journal)
        print(f"changes on {names} are kept in {where}; zfuse mount --rw goes on with them")


def _choice(choices: Mapping[str, bool]) -> str | None:
    """Return what is to become of changes, None if nothing is said."""
    chosen = [name for name, given in choices.items() if given]
    if len(chosen) > 1:
        raise InvalidInputError(" and ".join(f"--{name}" for name in chosen) + ": give one of them")
    return chosen[0] if chosen else None


def _check(*, force: bool, changes: str | None, message: str | None) -> None:
    if force and changes in {"sync", "discard"}:
        raise InvalidInputError(f"--force asks the daemon nothing; first: zfuse {changes}")
    if (changes == "sync") is not (message is not None):
        raise InvalidInputError('--sync and -m belong together: zfuse umount DIR --sync -m "..."')
