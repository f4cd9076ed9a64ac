"""A repository next to the data that goes into it, and how official readers see both."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr

from zfuse.daemon.assemble import assembled
from zfuse.daemon.settings import mount_settings
from zfuse.ingest.run import Choices, Request, ingest
from zfuse.ingest.sources import source_of
from zfuse.repo.create import create_repository
from zfuse.storage.local import LocalStorage
from zfuse.storage.options import DEFAULT_OPTIONS

icechunk.set_logs_filter("off")

YEAR_2020 = 1_577_836_800


@dataclass
class Archive:
    """A repository at ``url``, and a directory of data."""

    data: Path
    url: str
    layer: dict = field(default_factory=dict)
    source_options: object = DEFAULT_OPTIONS

    async def ingest(self, *sources, group=None, kind="auto", skip=(), tell=None, **choices):
        """Ingest *sources*, each a place or a pair of it and its node."""
        pairs = [s if isinstance(s, tuple) else (s, "/") for s in sources]
        requests = [
            Request(
                source_of(
                    str(place), kind=kind, group=group, skip=skip, options=self.source_options
                ),
                node,
            )
            for place, node in pairs
        ]
        async with assembled(mount_settings(self.url, self.layer)) as parts:
            chosen = Choices("test", **choices)
            return await ingest(
                parts.repository, requests, chosen, *([] if tell is None else [tell])
            )

    def official(self, authorized=None) -> icechunk.Repository:
        """Open the repository with the official library."""
        storage = icechunk.local_filesystem_storage(self.url)
        if authorized is None:
            access = icechunk.credentials.LocalFileSystemAccess
            authorized = dict.fromkeys(self.containers(), access)
        return icechunk.Repository.open(storage, authorize_virtual_chunk_access=authorized)

    def containers(self) -> dict:
        """Return the containers that the repository declares, by prefix."""
        config = icechunk.Repository.fetch_config(icechunk.local_filesystem_storage(self.url))
        return (config and config.virtual_chunk_containers) or {}

    def store(self, authorized=None) -> icechunk.IcechunkStore:
        """Return the official store of the branch main."""
        return self.official(authorized).readonly_session("main").store

    def history(self) -> list[str]:
        """Return the messages of all commits, newest first."""
        return [info.message for info in self.official().ancestry(branch="main")]

    def objects(self, folder: str) -> list[str]:
        """Return the objects of one kind that the repository has."""
        return os.listdir(Path(self.url) / folder)

    def settle(self) -> None:
        """Give all data an old time, so that no ingest has to wait for it to be quiet."""
        settle(self.data)


def settle(directory: Path) -> None:
    """Give all files below *directory* a time long ago."""
    for place, _, names in os.walk(directory):
        for name in names:
            os.utime(Path(place, name), (YEAR_2020, YEAR_2020))


async def new_archive(directory: Path, spec_version: int = 2) -> Archive:
    """Return an empty repository below *directory*, and an empty directory of data."""
    data, repository = directory / "data", directory / "repository"
    data.mkdir()
    await create_repository(LocalStorage(repository), spec_version=spec_version)
    return Archive(data, str(repository))


@pytest.fixture
async def archive(tmp_path):
    """An empty repository, and an empty directory of data."""
    return await new_archive(tmp_path)


@pytest.fixture(params=[1, 2])
async def either_archive(request, tmp_path):
    """The same in both versions."""
    return await new_archive(tmp_path, request.param)


def arrays_of(store, path="") -> dict[str, np.ndarray]:
    """Return the values of all arrays of a store that zarr-python opens."""
    group = zarr.open_group(store, path=path or None, mode="r")
    return {
        name: member[...]
        for name, member in group.members(max_depth=None)
        if isinstance(member, zarr.Array)
    }


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether arrays have the same values, NaN and NaT included."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or _native(first.dtype) != _native(second.dtype):
        return False
    if first.dtype.kind in "mM":
        first, second = first.astype("i8"), second.astype("i8")
    return np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")


def _native(dtype: np.dtype) -> np.dtype:
    return dtype if dtype.kind == "T" else dtype.newbyteorder("=")


def equal_arrays(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """Assert that two stores have the same arrays."""
    assert first.keys() == second.keys()
    different = [name for name in first if not same(first[name], second[name])]
    assert not different, f"{different}: {first[different[0]]} and {second[different[0]]}"
