"""``zfuse doctor``."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
import botocore.session
import click
import trio

from zfuse.cli import output
from zfuse.cli.layers import all_layers, user_config
from zfuse.cli.main import most_telling
from zfuse.cli.options import storage_options
from zfuse.cli.serving import default_log
from zfuse.cli.target import Target, find_target, opened
from zfuse.daemon.control import call_mount, runtime_directory
from zfuse.daemon.mount_point import allows_others, check_fuse
from zfuse.daemon.mountinfo import zfuse_mounts
from zfuse.daemon.settings import (
    MOUNT_FILES,
    SYSTEM_CONFIG,
    layer_from_environment,
    layer_from_toml,
)
from zfuse.errors import NotMountedError, ZfuseError

OK, NOTE, BAD = "ok", "note", "bad"
_PACKAGES: Final = ("zfuse", "pyfuse3", "trio", "zarr", "numpy", "aiobotocore", "zstandard")
_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
_BDI: Final = Path("/sys/class/bdi")
_FEW_FILES: Final = 1024
_ASK_S: Final = 5.0
_REPOSITORY: Final = "repository"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is (ok, note or bad), and what to do about it."""

    check: str
    state: str
    found: str
    advice: str = ""
    exit_code: int = 0


@click.command(epilog="Example: zfuse doctor s3://bucket/repo --profile work")
@click.argument("repo", required=False)
@storage_options
@output.as_json
def command(*, repo: str | None, as_json: bool, **flags: Any) -> int:  # noqa: ANN401
    """Find out what would keep zfuse from working on this machine, and say what to do.

    With REPO, also whether that repository, or the one that is mounted there, can be read.
    The exit code is 0 unless something is bad: then it says what is wrong with REPO (10: there
    is none), or else with the machine (6: the daemon of a mount is gone; 2: anything else).
    With --json, one object a line.
    """
    worst = 0
    rows: list[tuple[str, ...]] = []
    for finding in _examine(repo, flags):
        if finding.state == BAD and (not worst or finding.check == _REPOSITORY):
            worst = finding.exit_code or 2
        if as_json:
            output.print_json(asdict(finding))
        advice = f"; {finding.advice}" if finding.advice else ""
        colour = {OK: "green", NOTE: "yellow", BAD: "red"}[finding.state]
        state = output.styled(f"{finding.state:<4}", fg=colour)
        rows.append((state, finding.check, finding.found + advice))
    if not as_json:
        output.print_table(rows)
    return worst


def _examine(repo: str | None, flags: Mapping[str, Any]) -> Iterator[Finding]:
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _packages,
        _fuse,
        _fusermount,
        _allow_other,
        _background,
        _read_ahead,
        _sockets,
        _logs,
        _open_files,
        _settings_files,
        _credentials,
        _dead_mounts,
    )
    for check in checks:
        yield check()
    if repo is not None:
        yield _repository(repo, flags)


def _python() -> Finding:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    return Finding("python", OK, found)


def _packages() -> Finding:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", BAD, f"missing: {', '.join(missing)}", "run: pip install zfuse")
    return Finding("packages", OK, ", ".join(found))


def _fuse() -> Finding:
    try:
        check_fuse(allow_other=False)
    except ZfuseError as exc:
        found, _, advice = str(exc).partition(": ")
        return Finding("/dev/fuse", BAD, found, advice)
    return Finding("/dev/fuse", OK, "can be used")


def _fusermount() -> Finding:
    path = shutil.which("fusermount3")
    if path is None:
        return Finding("fusermount3", BAD, "not found", "install the package fuse3")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return Finding("fusermount3", OK, f"{path} ({said.stdout.strip()})")


def _allow_other() -> Finding:
    if os.geteuid() == 0 or allows_others():
        return Finding("allow-other", OK, "can be used")
    advice = "only if others shall see your mounts: add user_allow_other to /etc/fuse.conf"
    return Finding("allow-other", NOTE, "not for you", advice)


def _background() -> Finding:
    if not _CONNECTIONS.is_dir() or not any(_CONNECTIONS.parent.glob("connections/*/")):
        mounted = os.path.ismount(_CONNECTIONS)
        if not mounted:
            advice = "run: mount -t fusectl none /sys/fs/fuse/connections"
            return Finding("max_background", NOTE, "fusectl is not mounted", advice)
    if os.geteuid() == 0:
        return Finding("max_background", OK, "can be raised")
    advice = "with more than 12 slow reads at once others wait; mount as root if that hurts"
    return Finding("max_background", NOTE, "stays at the kernel's 12", advice)


def _read_ahead() -> Finding:
    if os.geteuid() == 0 and _BDI.is_dir() and os.access(_BDI, os.W_OK):
        return Finding("read_ahead_kb", OK, "can be raised")
    advice = "streaming through buffered reads is slower; mount as root if that hurts"
    return Finding("read_ahead_kb", NOTE, "stays at the kernel's 128", advice)


def _sockets() -> Finding:
    return _writable("control sockets", runtime_directory(os.geteuid()))


def _logs() -> Finding:
    return _writable("logs of mount -d", default_log(Path("/")).parent)


def _writable(check: str, directory: Path) -> Finding:
    nearest = directory
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding(check, BAD, f"{directory} cannot be written", f"make it yours: {nearest}")
    return Finding(check, OK, str(directory))


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FEW_FILES:
        return Finding("open files", NOTE, f"limit {soft}", "raise it: ulimit -n 4096")
    return Finding("open files", OK, f"limit {soft}, at most {hard}")


def _settings_files() -> Finding:
    files = [SYSTEM_CONFIG, user_config(), *sorted(MOUNT_FILES.glob("*.toml"))]
    try:
        for path in files:
            layer_from_toml(path, is_mount_file=path.parent == MOUNT_FILES)
        layer_from_environment(os.environ)
    except ZfuseError as exc:
        return Finding("settings files", BAD, str(exc), "mend that")
    there = [str(path) for path in files if path.exists()]
    return Finding("settings files", OK, ", ".join(there) or "none")


def _credentials() -> Finding:
    try:
        profile = all_layers({}).get("profile")
    except ZfuseError:
        return Finding("S3 credentials", NOTE, "not looked for", "mend the settings first")
    try:
        session = botocore.session.Session(profile=profile)
        credentials = session.get_credentials()
        region = session.get_config_variable("region")
    except botocore.exceptions.BotoCoreError as exc:
        return Finding("S3 credentials", BAD, str(exc), "mend the AWS configuration files")
    if credentials is None:
        advice = "for S3 set AWS_PROFILE, run aws configure, or mount with --anonymous"
        return Finding("S3 credentials", NOTE, "none", advice)
    where = f"from {credentials.method}, region {region or 'not set'}"
    return Finding("S3 credentials", OK, where)


def _dead_mounts() -> Finding:
    dead, alive = [], 0
    for mount in zfuse_mounts():
        try:
            call_mount(mount, "status", timeout_s=_ASK_S)
            alive += 1
        except ZfuseError:
            dead.append(str(mount.path))
    if dead:
        advice = f"run: zfuse umount {dead[0]}"
        found = f"without daemon: {', '.join(dead)}"
        return Finding("mounts", BAD, found, advice, NotMountedError.exit_code)
    return Finding("mounts", OK, f"{alive} alive")


def _repository(repo: str, flags: Mapping[str, Any]) -> Finding:
    began = time.monotonic()
    try:
        target = find_target(repo, flags)
        found = trio.run(_open, target)
    except Exception as raised:
        exc = most_telling(raised)
        if not isinstance(exc, ZfuseError):
            raise
        problem, _, advice = str(exc).partition("; ")
        return Finding(_REPOSITORY, BAD, problem, advice, exc.exit_code)
    if not _is_repository(repo, target):
        found = f"{repo} is in a mount of {found}"
    return Finding(_REPOSITORY, OK, f"{found}, {time.monotonic() - began:.2f} s to open")


def _is_repository(repo: str, target: Target) -> bool:
    """Tell whether *repo* is the repository of *target* itself, not a place in a mount of it."""
    return "://" in repo or str(Path(repo).absolute()) == target.location


async def _open(target: Target) -> str:
    async with opened(target) as repository:
        state = repository.state
        return (
            f"{repository.storage.url}: spec {state.spec_version},"
            f" {len(state.branches)} branches, {len(state.tags)} tags"
        )
