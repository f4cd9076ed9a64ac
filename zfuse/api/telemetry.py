"""What the official library offers to look at itself; zfuse logs through ``logging``."""

import logging
import platform
from importlib import import_module
from importlib.metadata import version

from zfuse.api.values import SpecVersion

_LEVELS = {
    "off": logging.CRITICAL + 1,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}


def initialize_logs() -> None:
    """Do nothing: programs that want logs set up ``logging``."""


def set_logs_filter(log_filter_directive: str | None) -> None:
    """Set the level of the logger "zfuse": off, error, warn, info, debug or trace.

    Of directives for parts (``zfuse=debug,warn``) the one for everything counts.
    """
    words = (log_filter_directive or "").split(",")
    level = next((_LEVELS[word.strip()] for word in words if word.strip() in _LEVELS), None)
    logging.getLogger("zfuse").setLevel(logging.NOTSET if level is None else level)


def shutdown_telemetry() -> None:
    """Do nothing: zfuse sends none."""


def spec_version() -> SpecVersion:
    """Return the version of the format that new repositories get."""
    return SpecVersion.current()


def user_agent() -> str:
    """Return what zfuse calls itself."""
    return f"zfuse-{version('zfuse')}"


def print_debug_info() -> None:
    """Print the versions of what matters."""
    print(f"platform:  {platform.platform()}")  # noqa: T201 - that is what it is for
    print(f"python:  {platform.python_version()}")  # noqa: T201
    print(f"zfuse:  {version('zfuse')}")  # noqa: T201
    for package in ("zarr", "numcodecs", "xarray", "virtualizarr"):
        try:
            print(f"{package}:  {import_module(package).__version__}")  # noqa: T201
        except ModuleNotFoundError:
            continue
