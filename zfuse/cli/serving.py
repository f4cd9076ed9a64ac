"""What ``zfuse mount`` does once it is in the process that stays."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import trio

from zfuse.cli.detach import Reporter
from zfuse.cli.layers import all_layers, layer_of
from zfuse.daemon.control import runtime_directory
from zfuse.daemon.leftovers import clear_leftovers
from zfuse.daemon.mount import serve
from zfuse.daemon.mount_point import check_fuse, check_journal, check_mount_point
from zfuse.daemon.settings import (
    Layer,
    MountSettings,
    layer_from_mount_options,
    merge,
    mount_file,
    mount_settings,
)
from zfuse.daemon.systemd import Notifier
from zfuse.errors import InvalidInputError

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def serve_mount(
    flags: Mapping[str, Any],
    reporter: Reporter | None,
    announce: Callable[[Mapping[str, Any]], None],
) -> None:
    """Mount and return when the mount has ended.

    Readiness goes to systemd, and to *reporter* if there is one, else to *announce*.
    """
    settings, mountpoint = interpret(flags)
    check_fuse(allow_other=settings.allow_other)
    check_mount_point(mountpoint, settings.repository)
    if settings.rw and settings.journal is not None:
        check_journal(settings.journal, mountpoint, settings.repository)
    clear_leftovers(runtime_directory(os.geteuid()))
    _start_logging(settings, mountpoint, reporter)
    notifier = Notifier.from_environment(os.environ, os.getpid())
    facts: dict[str, Any] = {
        "repository": settings.repository,
        "mountpoint": str(mountpoint),
        "ref": str(settings.ref) if settings.ref is not None else None,
        "pid": os.getpid(),
    }

    def ready(recovered: Sequence[str]) -> None:
        facts["recovered"] = list(recovered)
        notifier.notify(f"READY=1\nSTATUS=Serving {settings.repository} at {mountpoint}")
        if notifier.watchdog_s is not None:
            trio.lowlevel.spawn_system_task(notifier.keep_alive)
        if reporter is not None:
            reporter.ready(facts)
        else:
            announce(facts)
            sys.stdout.flush()

    try:
        serve(settings, mountpoint, ready=ready)
    finally:
        notifier.notify("STOPPING=1")


def interpret(flags: Mapping[str, Any]) -> tuple[MountSettings, Path]:
    """Return the settings and the absolute mount point that the parsed *flags* mean.

    Raises:
        InvalidInputError: REPO or DIR is missing, or a setting is wrong.
    """
    rest = dict(flags)
    name, options = rest.pop("name", None), rest.pop("mount_options", ())
    given = {"repository": rest.pop("repo", None), "mountpoint": rest.pop("directory", None)}
    from_file: Layer = mount_file(name) if name else {}
    place = {key: value or from_file.get(key) for key, value in given.items()}
    if place["repository"] is None or place["mountpoint"] is None:
        raise InvalidInputError("say what to mount and where: zfuse mount REPO DIR")
    flagged, optional = layer_of(rest), layer_from_mount_options(options)
    if flagged.get("rw") and optional.get("rw") is False:
        raise InvalidInputError("--rw and -o ro: give one of them")
    layer = all_layers(merge([flagged, optional]), from_file)
    repository = place["repository"]
    if "://" not in repository:
        repository = str(Path(repository).expanduser().absolute())
    settings = mount_settings(repository, layer)
    if settings.journal is None:
        settings = replace(settings, journal=state_directory())
    return settings, Path(os.path.abspath(Path(place["mountpoint"]).expanduser()))


def _start_logging(settings: MountSettings, mountpoint: Path, reporter: Reporter | None) -> None:
    handler: logging.Handler = logging.StreamHandler()
    try:
        if reporter is not None:
            reporter.log_to(settings.log_file or default_log(mountpoint))
            os.chdir("/")  # keep no other file system busy
        elif settings.log_file is not None:
            handler = logging.FileHandler(settings.log_file)
    except OSError as exc:
        raise InvalidInputError(
            f"can not log to {exc.filename} ({exc.strerror}); say where: --log-file FILE"
        ) from exc
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("zfuse").setLevel(settings.log_level.upper())


def default_log(mountpoint: Path) -> Path:
    """Return where a mount in the background logs unless told otherwise."""
    return state_directory() / (
        quote(str(mountpoint), safe="", errors="surrogateescape")[-200:] + ".log"
    )


def state_directory() -> Path:
    """Return where this user's sessions and logs are kept: the service's own, or the home's."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home, "zfuse")


def copies_directory() -> Path:
    """Return where runs of ``zfuse materialize`` note what they have stored."""
    return state_directory() / "materialize"
