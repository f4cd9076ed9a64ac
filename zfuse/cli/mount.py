"""``zfuse mount``. Light until it has forked; the work is in ``zfuse.cli.serving``."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from zfuse.cli import output
from zfuse.cli.detach import Reporter, detach
from zfuse.cli.options import ref_options, storage_options, virtual_option


@click.command(epilog="Example: zfuse mount -d s3://bucket/repo /mnt/repo --tag v1.0")
@click.argument("repo", required=False)
@click.argument("directory", metavar="DIR", required=False)
@click.option("-d", "--daemon", is_flag=True, help="Return when the mount is ready.")
@click.option("--name", metavar="NAME", help="Take it from /etc/zfuse/mounts.d/NAME.toml.")
@click.option("--rw", is_flag=True, default=None, help="Let branches be written to.")
@click.option("--journal", metavar="DIR", help="Keep sessions there [~/.local/state/zfuse].")
@ref_options
@virtual_option
@click.option("--follow", metavar="SECONDS", help="Look so often where branches moved to.")
@click.option("--memory", metavar="SIZE", help="Memory for caches [256MiB].")
@click.option("--allow-other", is_flag=True, default=None, help="Let other users in.")
@click.option("--uid", help="Owner of all files [you].")
@click.option("--gid", help="Group of all files [yours].")
@click.option("--umask", help="Permissions to take away, in octal.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error [info].")
@click.option("--log-file", metavar="FILE", help="Log there instead of standard error.")
@click.option("-o", "mount_options", metavar="OPTS", multiple=True, help="As mount(8) takes them.")
@storage_options
@output.as_json
def command(*, daemon: bool, as_json: bool, **flags: Any) -> int:  # noqa: ANN401
    """Show the repository REPO as the directory DIR.

    All branches, tags and snapshots appear as directories of Zarr files; with --branch,
    --tag, --snapshot or --as-of DIR is that one version itself. Runs in the foreground
    until the mount is ended, unless -d is given.
    """

    def announce(facts: Mapping[str, Any]) -> None:
        if as_json:
            output.print_json(facts)
        for branch in () if as_json else facts["recovered"]:
            print(
                f"branch {output.plain(branch)} has changes of an earlier mount;"
                f" see zfuse status {output.plain(facts['mountpoint'])}"
            )

    def work(reporter: Reporter | None) -> int:
        serving = importlib.import_module("zfuse.cli.serving")
        serving.serve_mount(flags, reporter, announce)
        return 0

    return detach(work, announce) if daemon else work(None)
