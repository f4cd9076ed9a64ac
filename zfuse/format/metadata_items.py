"""The key-value pairs of snapshots and repositories (MetadataItem of the specification)."""

from collections.abc import Sequence

from zfuse.format.flat import Table, required
from zfuse.format.values import Decoder, Json


def decode_items(tables: Sequence[Table], decode: Decoder) -> dict[str, Json]:
    """Return the items by name, each value read by *decode*; the first of a name stays.

    Raises:
        CorruptionError: an item is damaged.
    """
    items: dict[str, Json] = {}
    for table in tables:
        name = required(table.string(0), "MetadataItem.name")
        value = required(table.byte_vector(1), "MetadataItem.value")
        if name not in items:
            items[name] = decode(value)
    return items
