"""``zfuse create``."""

import errno
from typing import Any, Final

import click
import trio

from zfuse.cli import output
from zfuse.cli.layers import all_layers, layer_of
from zfuse.cli.options import storage_options
from zfuse.daemon import settings
from zfuse.errors import InvalidInputError, NotFoundError, ObjectNotFoundError, StorageError
from zfuse.repo.create import create_repository
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions

_LASTING: Final = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EPERM,
}
"""What trying again does not mend."""


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
        try:
            await create_repository(storage, spec_version=spec_version)
        except ObjectNotFoundError as exc:
            raise NotFoundError(
                f"cannot make {repo}: {exc}; make the bucket, or the directory above, first"
            ) from exc
        except StorageError as exc:
            problem = exc.__cause__
            if isinstance(problem, OSError) and problem.errno in _LASTING:
                raise InvalidInputError(
                    f"cannot make {repo}: {problem.strerror}; choose a directory that can be"
                    " written to"
                ) from exc
            raise
        return storage.url
