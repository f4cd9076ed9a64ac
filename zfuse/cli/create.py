"""``zfuse create``."""

from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.layers import all_layers, layer_of
from zfuse.cli.options import storage_options
from zfuse.daemon import settings
from zfuse.repo.create import create_repository
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions


@click.command(epilog="Example: zfuse create s3://bucket/repo --region eu-central-1")
@click.argument("repo")
@click.option("--spec-version", type=click.IntRange(1, 2), default=2, show_default=True)
@storage_options
@output.as_json
def command(*, repo: str, spec_version: int, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Make an empty repository with the branch main at REPO, which must be an empty place."""
    options = settings.storage_options(all_layers(layer_of(flags)))
    url = trio.run(_create, repo, options, spec_version)
    if as_json:
        output.print_json({"repository": url, "spec_version": spec_version, "branch": "main"})
    else:
        print(f"made {url} (spec {spec_version}, branch main)")


async def _create(repo: str, options: StorageOptions, spec_version: int) -> str:
    async with StorageOpener() as opener:
        storage = await opener.open(repo, options)
        await create_repository(storage, spec_version=spec_version)
        return storage.url
