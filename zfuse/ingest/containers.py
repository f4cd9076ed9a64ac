"""The virtual chunk containers that references need: which are missing, and what they say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np

from zfuse.errors import CorruptionError, InvalidInputError
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.ingest.parsed import ParsedSource
from zfuse.ingest.sources import Source
from zfuse.repo.virtual import Place
from zfuse.storage.foreign_files import split_url
from zfuse.storage.obstore_s3 import s3_place
from zfuse.storage.options import StorageOptions


@dataclass(frozen=True, slots=True)
class Reach:
    """The places that a source refers to, and how it was reached.

    A place is a URL, for all below it if it ends with a slash, with the directory that its
    container would be.
    """

    places: tuple[tuple[str, str], ...]
    options: StorageOptions


def reach_of(parsed: ParsedSource, source: Source) -> Reach:
    """Return the places that the references of a source lead to.

    The container of a Zarr store is the directory that it lies in, where its neighbours are.
    """
    if parsed.format == "zarr":
        place = (f"{parsed.location}/", _directory(source.location))
        return Reach((place,), source.options)
    places = tuple((place, _directory(place)) for place in _locations(parsed))
    return Reach(places, source.options)


def uncovered(declared: Mapping[str, VirtualChunkContainer], parsed: ParsedSource) -> str | None:
    """Return a location that chunks lead to and that is in no container, None if all are."""
    containers = list(declared.values())
    return next((place for place in _locations(parsed) if not _holder(containers, place)), None)


def _locations(parsed: ParsedSource) -> list[str]:
    """Return the locations that chunks lead to."""
    used: set[int] = set()
    for node in parsed.nodes:
        if node.chunks is not None:
            used.update(np.unique(node.chunks.files).tolist())
    used.discard(-1)
    return [(parsed.files.locations[row] or b"").decode() for row in sorted(used)]


def missing_containers(
    declared: Mapping[str, VirtualChunkContainer], reaches: Iterable[Reach]
) -> list[VirtualChunkContainer]:
    """Return the containers that have to be declared so that all references lie in one.

    Raises:
        InvalidInputError: a place that is needed is declared with another endpoint.
    """
    wanted: dict[str, VirtualChunkContainer] = {}
    for reach in reaches:
        for place, directory in reach.places:
            holder = _holder([*declared.values(), *wanted.values()], place)
            if holder is None:
                wanted[directory] = _container(directory, reach.options)
            elif holder.url_prefix not in wanted:
                _check_same_server(holder, _container(place, reach.options))
    return [
        each
        for prefix, each in wanted.items()
        if _holder([c for p, c in wanted.items() if p != prefix], prefix) is None
    ]


def _directory(place: str) -> str:
    """Return the URL of the directory of *place*; a whole bucket lies in itself."""
    root, _ = split_url(place)
    return root if len(place) <= len(root) else place.rpartition("/")[0] + "/"


def _holder(containers: Iterable[VirtualChunkContainer], url: str) -> VirtualChunkContainer | None:
    """Return the container that readers would use for *url*, if any."""
    place = Place.parse(url)
    holding: list[tuple[int, VirtualChunkContainer]] = []
    for container in containers:
        try:
            declared = Place.parse(container.url_prefix)
        except CorruptionError:
            continue
        if declared.holds(place):
            holding.append((len(declared.path), container))
    return max(holding, key=lambda pair: pair[0])[1] if holding else None


def _container(prefix: str, options: StorageOptions) -> VirtualChunkContainer:
    scheme, _, rest = prefix.partition("://")
    if scheme == "file":
        path = unquote(rest)
        if path == "/":
            raise InvalidInputError(
                "a source in the root directory would need a container for all files; move it"
                " into a directory"
            )
        return VirtualChunkContainer(prefix, StoreConfig("local_file_system", {"path": path}))
    if scheme == "s3":
        return VirtualChunkContainer(prefix, _s3(rest.partition("/")[0], options))
    return VirtualChunkContainer(prefix, StoreConfig("http"))


def _s3(bucket: str, options: StorageOptions) -> StoreConfig:
    region, endpoint = s3_place(bucket, options)
    told: dict[str, Any] = {
        "region": region,
        "endpoint_url": endpoint,
        "anonymous": options.anonymous,
        "allow_http": endpoint is not None and endpoint.startswith("http://"),
        "force_path_style": options.force_path_style or endpoint is not None,
        "requester_pays": options.requester_pays,
    }
    return StoreConfig("s3" if endpoint is None else "s3_compatible", told)


def _check_same_server(declared: VirtualChunkContainer, needed: VirtualChunkContainer) -> None:
    before = declared.store.options.get("endpoint_url")
    after = needed.store.options.get("endpoint_url")
    if (before or "").rstrip("/") != (after or "").rstrip("/"):
        raise InvalidInputError(
            f"the container {declared.url_prefix} of the repository is at"
            f" {before or 'its usual place'}, the source at {after or 'its usual place'}; give"
            " --endpoint-url, or declare the container anew with zfuse container add --replace"
        )
