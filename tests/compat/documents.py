"""zarr.json documents and store calls in their plainest form.

For states that zarr-python would not write, under any version of icechunk and zarr.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync

GROUP = b'{"zarr_format":3,"node_type":"group","attributes":{}}'

DOT = {"name": "default", "configuration": {"separator": "."}}
V2_DOT = {"name": "v2"}
V2_SLASH = {"name": "v2", "configuration": {"separator": "/"}}


def array_document(shape: Sequence[int], chunks: Sequence[int], **members: Any) -> bytes:
    """Return the zarr.json of an uncompressed uint8 array; *members* replace or add members."""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "bytes"}],
        "fill_value": 0,
        "attributes": {},
    }
    return json.dumps(document | members).encode()


def put(store: Store, key: str, data: bytes) -> None:
    """Store *data* under *key*."""
    sync(store.set(key, cpu.Buffer.from_bytes(data)))


def put_all(store: Store, entries: Mapping[str, bytes]) -> None:
    """Store all of *entries*."""
    for key, data in entries.items():
        put(store, key, data)


def delete(store: Store, key: str) -> None:
    """Remove *key*."""
    sync(store.delete(key))


def get_all(store: Store) -> dict[str, bytes]:
    """Return the content of every key that *store* lists and has."""

    async def collect() -> dict[str, bytes]:
        found = {key: await get(store, key) async for key in store.list()}
        return {key: data for key, data in found.items() if data is not None}

    return sync(collect())


async def get(store: Store, key: str) -> bytes | None:
    """Return what is stored under *key*."""
    found = await store.get(key, default_buffer_prototype())
    return None if found is None else found.to_bytes()
