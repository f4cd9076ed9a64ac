"""``zfuse config``."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.config_state import COMMANDS as STATE_COMMANDS
from zfuse.cli.config_state import repository_facts
from zfuse.cli.layers import layer_of, named_layers
from zfuse.cli.options import ref_options, storage_options, virtual_option
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.subcommands import Subcommands
from zfuse.cli.target import Target, find_target, opened
from zfuse.daemon.settings import Layer, merge, mount_file, mount_settings, values_by_name
from zfuse.errors import InvalidInputError, NotMountedError
from zfuse.format.config_settings import (
    SETTINGS,
    Setting,
    SettingKind,
    find,
    known_setting,
    put,
    unknown_settings,
)
from zfuse.repo.settings import change_config

_PLACE = ("repository", "mountpoint")


@click.group(cls=Subcommands, epilog="Example: zfuse config show s3://bucket/repo --origin")
def command() -> None:
    """Show settings and where they come from, and change those that a repository carries.

    What a repository carries counts for all who use it: zfuse and the official library, on
    any machine. zfuse's own settings are flags, ZFUSE_* variables, and the lines of
    /etc/zfuse/mounts.d/NAME.toml, ~/.config/zfuse/config.toml and /etc/zfuse/config.toml. Each
    command takes --json.
    """


for each in STATE_COMMANDS:
    command.add_command(each)


@command.command(epilog="Example: zfuse config show s3://bucket/repo --origin")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.option("--origin", is_flag=True, help="Say where each setting comes from.")
@click.option("--name", metavar="NAME", help="As /etc/zfuse/mounts.d/NAME.toml has it.")
@ref_options
@virtual_option
@storage_options
@output.as_json
def show(
    *,
    target: str | None,
    origin: bool,
    name: str | None,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Show the settings of the repository, and those of zfuse that are in force here.

    Without REPO|PATH, and outside of a mount, it shows those of zfuse alone. Origins are
    repository and default for the one; flag, environment, mount file, user file, system file,
    mount (the one that PATH is in) and default for the other.
    """
    from_file = mount_file(name) if name else None
    if target is None and from_file is not None:
        target = str(from_file["repository"])
    found = _find(target, flags)
    layers = named_layers(layer_of(flags), from_file)
    if found is not None and found.mountpoint is not None:
        layers["mount"] = found.layer
    told: dict[str, Any] = {"repository": None} if found is None else trio.run(_facts, found)
    told["zfuse_settings"] = _own_settings(layers)
    if as_json:
        output.print_json(told)
    else:
        _print(told, origin=origin)


def _find(text: str | None, flags: Mapping[str, Any]) -> Target | None:
    try:
        return find_target(text, flags)
    except NotMountedError:
        if text is not None:
            raise
        return None


async def _facts(target: Target) -> dict[str, Any]:
    async with opened(target) as repository:
        raw = repository.state.config.raw
        settings = {key: _stored(raw, key, setting) for key, setting in SETTINGS.items()}
        others = {key: _told(value, "repository") for key, value in unknown_settings(raw)}
        return {**repository_facts(repository), "repository_settings": settings | others}


def _stored(raw: Mapping[str, Any], key: str, setting: Setting) -> dict[str, Any]:
    value = find(raw, key)
    return _told(setting.default, "default") if value is None else _told(value, "repository")


def _told(value: object, origin: str) -> dict[str, Any]:
    return {"value": value, "origin": origin}


def _own_settings(layers: Mapping[str, Layer]) -> dict[str, dict[str, Any]]:
    """Return zfuse's settings by name, from the merged *layers* or by default."""
    merged = merge([*layers.values()])
    known = {name: value for name, value in merged.items() if name not in _PLACE}
    found = {}
    for name, value in values_by_name(mount_settings("", known)).items():
        places = (place for place, layer in layers.items() if name in layer)
        origin = next(places, "default") if name in known else "default"
        found[name.replace("-", "_")] = _told(value, origin)
    return found


def _print(told: Mapping[str, Any], *, origin: bool) -> None:
    if told["repository"] is not None:
        print(f"{output.plain(told['repository'])} (spec version {told['spec_version']}):")
        _print_settings(told["repository_settings"], origin=origin)
        _print_settings(
            {f"feature flag {flag}": each for flag, each in told["feature_flags"].items()},
            origin=origin,
        )
        reason = f": {told['availability_reason']}" if told["availability_reason"] else ""
        output.print_table([("  status", f"{told['availability']}{reason}")])
        if told["metadata"]:
            output.print_table([("  metadata", output.json_text(told["metadata"]))])
        print()
    print("zfuse:")
    own = {name.replace("_", "-"): each for name, each in told["zfuse_settings"].items()}
    _print_settings(own, origin=origin)


def _print_settings(settings: Mapping[str, Mapping[str, Any]], *, origin: bool) -> None:
    rows = [(f"  {name}", each["origin"], _shown(each["value"])) for name, each in settings.items()]
    output.print_table([row if origin else (row[0], row[2]) for row in rows])


def _shown(value: object) -> str:
    match value:
        case None | () | []:
            return "-"
        case str():
            return value
        case list() if all(isinstance(item, str) for item in value):
            return " ".join(value)
        case _:
            return output.json_text(value)


@command.command("set", epilog="Example: zfuse config set s3://bucket/repo compression.level 5")
@click.argument("arguments", metavar="[REPO|PATH] KEY VALUE", nargs=-1)
@storage_options
@output.as_json
def set_(*, arguments: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Set a setting that the repository carries; zfuse config show names all.

    VALUE is JSON, or else text. Programs that have the repository open go on with what they
    read when they opened it.
    """
    usage = "zfuse config set [REPO|PATH] KEY VALUE"
    if len(arguments) not in {2, 3}:
        raise InvalidInputError(f"write {usage}")
    *place, key, text = arguments
    value = _parsed(key, text)
    target = find_repository(place[0] if place else None, flags, usage)
    trio.run(_put, target, key, value)
    if as_json:
        output.print_json({"key": key, "value": value, "origin": "repository"})
    else:
        print(f"{output.plain(key)} = {output.plain(_shown(value))}")


@command.command(epilog="Example: zfuse config unset s3://bucket/repo compression.level")
@click.argument("arguments", metavar="[REPO|PATH] KEY", nargs=-1)
@storage_options
@output.as_json
def unset(*, arguments: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Give a setting that the repository carries back to its default."""
    usage = "zfuse config unset [REPO|PATH] KEY"
    if len(arguments) not in {1, 2}:
        raise InvalidInputError(f"write {usage}")
    *place, key = arguments
    default = known_setting(key).default
    trio.run(_put, find_repository(place[0] if place else None, flags, usage), key, None)
    if as_json:
        output.print_json({"key": key, "value": default, "origin": "default"})
    else:
        print(f"{output.plain(key)} has its default: {output.plain(_shown(default))}")


def _parsed(key: str, text: str) -> Any:  # noqa: ANN401 - any value of JSON
    """Return the value that *text* means for the setting *key*.

    Raises:
        InvalidInputError: there is no such setting, or it can not be that.
    """
    setting = known_setting(key)
    meant: list[Any] = [text]  # any_array and such are texts, but need no quotes
    if setting.kind is not SettingKind.TEXT:
        with contextlib.suppress(ValueError):
            meant.insert(0, json.loads(text))
    for value in meant:
        if value is not None and setting.takes(value):
            return value
    raise InvalidInputError(f"{key} can not be {text!r:.80}: it is {setting.wants}")


async def _put(target: Target, key: str, value: object) -> None:
    async with opened(target) as repository:
        await change_config(repository, lambda config: put(config, key, value))
