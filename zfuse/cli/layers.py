"""From flags, environment and files to the settings of a command."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zfuse.daemon.settings import (
    SYSTEM_CONFIG,
    Layer,
    layer_from_environment,
    layer_from_toml,
    merge,
)


def layer_of(flags: Mapping[str, Any]) -> Layer:
    """Return the settings among the parsed *flags* of a command; flags not given are left out."""
    return {
        name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
        for name, value in flags.items()
        if value is not None and value != ()
    }


def user_config() -> Path:
    """Return where this user's settings are."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home, "zfuse", "config.toml")


def all_layers(flags: Layer, mount_file: Layer | None = None) -> Layer:
    """Merge *flags* with the environment, a mount file, and the user's and system's files."""
    return merge([*named_layers(flags, mount_file).values()])


def named_layers(flags: Layer, mount_file: Layer | None = None) -> dict[str, Layer]:
    """Return the places that settings come from by name, the most specific first."""
    return {
        "flag": flags,
        "environment": layer_from_environment(os.environ),
        "mount file": mount_file or {},
        "user file": layer_from_toml(user_config()),
        "system file": layer_from_toml(SYSTEM_CONFIG),
    }
