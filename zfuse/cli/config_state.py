"""``zfuse config read-only``, ``flag`` and ``metadata``: what else a repository says of itself."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.target import Target, opened
from zfuse.errors import InvalidInputError
from zfuse.format.repo_info import Availability
from zfuse.format.repo_update import FeatureFlag
from zfuse.repo.repository import Repository
from zfuse.repo.settings import set_feature_flag, set_metadata, set_status, update_metadata

_FLAG_VALUES: Final = {"allow": True, "forbid": False, "default": None}
_FLAG_NAMES: Final = tuple(flag.name.lower() for flag in FeatureFlag)


def repository_facts(repository: Repository) -> dict[str, Any]:
    """Return status, metadata and feature flags of a repository, as JSON has them."""
    info = repository.state.info
    enabled = () if info is None else info.enabled_feature_flags or ()
    disabled = () if info is None else info.disabled_feature_flags or ()
    return {
        "repository": repository.storage.url,
        "spec_version": repository.state.spec_version,
        "availability": "online" if info is None else info.status.availability.name.lower(),
        "availability_reason": None if info is None else info.status.reason,
        "metadata": {} if info is None else dict(info.metadata),
        "feature_flags": {
            flag.name.lower(): {
                "value": flag not in disabled,
                "origin": "repository" if flag in (*enabled, *disabled) else "default",
            }
            for flag in FeatureFlag
        },
    }


@click.command(
    "read-only", epilog='Example: zfuse config read-only s3://bucket/repo --reason "moving"'
)
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.option("--reason", metavar="TEXT", help="Told to whoever tries to write.")
@click.option("--off", is_flag=True, help="Let the repository take changes again.")
@storage_options
@output.as_json
def read_only(
    *,
    target: str | None,
    reason: str | None,
    off: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Have the repository refuse all changes, by whatever program (spec version 2)."""
    if off and reason is not None:
        raise InvalidInputError("--off goes without --reason")
    found = find_repository(target, flags, "zfuse config read-only REPO")
    availability = Availability.ONLINE if off else Availability.READ_ONLY
    trio.run(_set_status, found, availability, reason)
    word = availability.name.lower()
    if as_json:
        output.print_json({"availability": word, "availability_reason": reason})
    else:
        print(f"the repository is {'online' if off else 'read-only'} now")


async def _set_status(target: Target, availability: Availability, reason: str | None) -> None:
    async with opened(target) as repository:
        await set_status(repository, availability, reason)


@click.command("flag", epilog="Example: zfuse config flag s3://bucket/repo delete_tag forbid")
@click.argument("arguments", metavar="[REPO|PATH] FLAG allow|forbid|default", nargs=-1)
@storage_options
@output.as_json
def flag_(*, arguments: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Allow or forbid move_node, create_tag or delete_tag in the repository (spec version 2)."""
    usage = "zfuse config flag [REPO|PATH] FLAG allow|forbid|default"
    if len(arguments) not in {2, 3}:
        raise InvalidInputError(f"write {usage}")
    *place, name, word = arguments
    if name.lower() not in _FLAG_NAMES:
        raise InvalidInputError(f"no feature flag {name!r}; there are {', '.join(_FLAG_NAMES)}")
    if word not in _FLAG_VALUES:
        raise InvalidInputError(f"{word!r}: write allow, forbid or default")
    target = find_repository(place[0] if place else None, flags, usage)
    trio.run(_set_flag, target, FeatureFlag[name.upper()], _FLAG_VALUES[word])
    if as_json:
        output.print_json({"flag": name.lower(), "value": _FLAG_VALUES[word]})
    else:
        print(f"{name.lower()}: {word}")


async def _set_flag(target: Target, flag: FeatureFlag, value: bool | None) -> None:  # noqa: FBT001 - trio.run
    async with opened(target) as repository:
        await set_feature_flag(repository, flag, value=value)


@click.command(epilog="Example: zfuse config metadata s3://bucket/repo --set owner=ocean-team")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.option("--set", "given", metavar="KEY=VALUE", multiple=True, help="Set one. Repeatable.")
@click.option("--unset", metavar="KEY", multiple=True, help="Remove one. Repeatable.")
@storage_options
@output.as_json
def metadata(
    *,
    target: str | None,
    given: Sequence[str],
    unset: Sequence[str],
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Show and change the metadata of the repository (spec version 2). VALUE is JSON, or text."""
    values = dict(map(_pair, given))
    found = find_repository(target, flags, "zfuse config metadata REPO")
    told = trio.run(_metadata, found, values, unset)
    if as_json:
        output.print_json({"metadata": told})
    else:
        output.print_table([(key, output.json_text(value)) for key, value in sorted(told.items())])


async def _metadata(
    target: Target, values: Mapping[str, Any], unset: Sequence[str]
) -> Mapping[str, Any]:
    async with opened(target) as repository:
        info = repository.state.info
        before = {} if info is None else info.metadata
        missing = [key for key in unset if key not in before]
        if missing:
            raise InvalidInputError(f"the metadata of the repository has no {missing[0]!r}")
        if unset:
            kept = {key: value for key, value in before.items() if key not in unset}
            await set_metadata(repository, kept | dict(values))
            return kept | dict(values)
        return await update_metadata(repository, values) if values else before


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInputError(f"--set {text}: write KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


COMMANDS: Final = (read_only, flag_, metadata)
