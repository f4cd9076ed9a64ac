"""``zfuse container``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options
from zfuse.cli.ref_commands import find_repository, shown_by
from zfuse.cli.subcommands import Subcommands
from zfuse.cli.target import Target, opened
from zfuse.errors import InvalidInputError
from zfuse.format.config import SCHEMES, StoreConfig, VirtualChunkContainer
from zfuse.format.config_settings import CONTAINERS_KEY
from zfuse.format.container_values import S3_KINDS, container_values
from zfuse.repo.settings import add_container, remove_container

_KINDS: Final = {
    "s3": "s3",
    "tigris": "tigris",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "azure": "azure",
    "abfs": "azure",
    "http": "http",
    "https": "http",
    "file": "local_file_system",
}
"""By scheme of a URL the kind of store that is meant, unless something else is said."""

_S3_FLAGS: Final = ("anonymous", "force_path_style", "requester_pays", "allow_http")


@click.group(
    cls=Subcommands,
    epilog="Example: zfuse container add s3://bucket/repo s3://archive/era5/ --anonymous",
)
def command() -> None:
    """List, declare and remove the places that virtual chunks may lie in.

    They are part of the repository's configuration. Credentials are not: whoever reads brings
    their own with --allow-virtual. Each command takes --json.
    """


@command.command("list", epilog="Example: zfuse container list s3://bucket/repo --json")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@storage_options
@output.as_json
def list_(*, target: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List the virtual chunk containers; with --json, one object a line.

    Containers that are not valid are ignored by every reader, and shown as such.
    """
    rows = trio.run(_list, find_repository(target, flags, "zfuse container list REPO"))
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    output.print_table([_shown(row) for row in rows])


async def _list(target: Target) -> list[dict[str, Any]]:
    async with opened(target) as repository:
        config = repository.state.config
        valid = config.virtual_chunk_containers
        stored = config.raw.get(CONTAINERS_KEY) or {}
        rows = [_row(container) for container in valid.values()]
        known = {row["url_prefix"] for row in rows}
        for key, values in stored.items():
            prefix = values.get("url_prefix", key) if isinstance(values, dict) else key
            if prefix not in known:
                rows.append({**_INVALID, "url_prefix": str(prefix)})
        return sorted(rows, key=lambda row: str(row["url_prefix"]))


_INVALID: Final[Mapping[str, Any]] = {
    "url_prefix": "",
    "name": None,
    "store": None,
    "options": {},
    "valid": False,
}


def _row(container: VirtualChunkContainer) -> dict[str, Any]:
    return {
        "url_prefix": container.url_prefix,
        "name": container.name,
        "store": container.store.kind,
        "options": dict(container.store.options),
        "valid": True,
    }


def _shown(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    options = [
        name if value is True else f"{name}={value}"
        for name, value in row["options"].items()
        if value not in (None, False) and (name, value) != ("network_stream_timeout_seconds", 60)
    ]
    kind = row["store"] if row["valid"] else "not valid: no reader uses it"
    return str(row["url_prefix"]), row["name"] or "-", kind, " ".join(options)


@command.command(
    epilog="Example: zfuse container add s3://bucket/repo s3://archive/era5/ --region us-east-1"
)
@click.argument("arguments", metavar="[REPO|PATH] URL_PREFIX", nargs=-1)
@click.option("--name", help="For locations relative to the container: vcc://NAME/...")
@click.option("--replace", is_flag=True, help="Instead of the one with that prefix or name.")
@click.option("--store", type=click.Choice([*SCHEMES]), help="Kind of store [what the URL says].")
@click.option("--region", help="S3 region of the container.")
@click.option("--endpoint-url", metavar="URL", help="S3 server of the container, if not AWS.")
@click.option("--anonymous", is_flag=True, help="Everybody may read the container.")
@click.option("--force-path-style", is_flag=True, help="Bucket in the URL path.")
@click.option("--requester-pays", is_flag=True, help="Who reads accepts to pay.")
@click.option("--allow-http", is_flag=True, help="Without TLS [if --endpoint-url is http://].")
@click.option("--option", metavar="KEY=VALUE", multiple=True, help="Any other. Repeatable.")
@click.option("--repo-endpoint-url", metavar="URL", help="S3 server of REPO.")
@click.option("--repo-region", metavar="REGION", help="S3 region of REPO.")
@click.option("--repo-force-path-style", is_flag=True, default=None, help="Bucket of REPO in path.")
@click.option("--profile", help="Profile of the shared AWS configuration files, for REPO.")
@click.option("--deadline", metavar="SECONDS", help="Longest time one request may take [30].")
@output.as_json
def add(
    *,
    arguments: Sequence[str],
    name: str | None,
    replace: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Declare URL_PREFIX as a place that virtual chunks may lie in.

    It ends with a slash. The options but those of REPO say how to reach the container, for
    everybody who reads the repository; azure needs --option account=NAME.
    """
    usage = "zfuse container add [REPO|PATH] URL_PREFIX"
    if len(arguments) not in {1, 2}:
        raise InvalidInputError(f"write {usage}")
    *place, prefix = arguments
    store = _store(prefix, flags)
    container = VirtualChunkContainer(prefix, store, name)
    container_values(container)  # which complains before anything is opened
    reach = {
        "endpoint_url": flags["repo_endpoint_url"],
        "region": flags["repo_region"],
        "force_path_style": flags["repo_force_path_style"],
        "profile": flags["profile"],
        "deadline": flags["deadline"],
    }
    target = find_repository(place[0] if place else None, reach, usage)
    is_new = trio.run(_add, target, container, replace)
    if as_json:
        output.print_json({**_row(container), "added": is_new})
    else:
        shown = output.plain(prefix)
        told = f"declared {shown}{shown_by(target)}"
        print(told if is_new else f"{shown} is declared just so already")


async def _add(target: Target, container: VirtualChunkContainer, replace: bool) -> bool:  # noqa: FBT001 - trio.run
    async with opened(target) as repository:
        return await add_container(repository, container, replace=replace)


def _store(prefix: str, flags: Mapping[str, Any]) -> StoreConfig:
    """Return the store that a prefix and the flags describe.

    Raises:
        InvalidInputError: no kind of store has such URLs, or not such options.
    """
    kind = flags["store"] or _kind(prefix)
    options: dict[str, Any] = {name: True for name in _S3_FLAGS if flags[name]}
    options |= {name: flags[name] for name in ("region", "endpoint_url") if flags[name]}
    if options and kind not in S3_KINDS:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise InvalidInputError(f"{given}: a store of the kind {kind} has no such option")
    if kind == "s3" and "endpoint_url" in options and flags["store"] is None:
        kind = "s3_compatible"
    if str(options.get("endpoint_url")).startswith("http://"):
        options["allow_http"] = True
    if kind == "local_file_system":
        path = prefix.partition("://")[2].partition("/")[2]
        options["path"] = unquote(f"/{path}".rstrip("/") or "/")
    return StoreConfig(kind, options | _others(flags["option"], kind))


def _kind(prefix: str) -> str:
    scheme, mark, _ = prefix.partition("://")
    if not mark:
        path = prefix if prefix.startswith("/") else "/directory"
        raise InvalidInputError(f"{prefix} is no URL; write file://{path.rstrip('/')}/")
    if scheme.lower() not in _KINDS:
        known = ", ".join(f"{scheme}://" for scheme in _KINDS)
        raise InvalidInputError(f"{prefix}: a container's URL starts with one of {known}")
    return _KINDS[scheme.lower()]


def _others(texts: Sequence[str], kind: str) -> dict[str, Any]:
    """Return the options that were given as KEY=VALUE."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidInputError(f"--option {text}: write KEY=VALUE")
        found[key] = int(value) if kind in S3_KINDS and value.isdecimal() else value
    return found


@command.command(epilog="Example: zfuse container remove s3://bucket/repo s3://archive/era5/")
@click.argument("arguments", metavar="[REPO|PATH] URL_PREFIX|NAME", nargs=-1)
@storage_options
@output.as_json
def remove(*, arguments: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Declare a container no longer: what refers into it can not be read then."""
    usage = "zfuse container remove [REPO|PATH] URL_PREFIX|NAME"
    if len(arguments) not in {1, 2} or not arguments[-1]:
        raise InvalidInputError(f"write {usage}")
    *place, which = arguments
    trio.run(_remove, find_repository(place[0] if place else None, flags, usage), which)
    if as_json:
        output.print_json({"container": which, "removed": True})
    else:
        print(f"removed {output.plain(which)}")


async def _remove(target: Target, which: str) -> None:
    async with opened(target) as repository:
        await remove_container(repository, which)
