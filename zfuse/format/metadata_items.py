"""The key-value pairs of snapshots and repositories (MetadataItem of the specification)."""

from collections.abc import Mapping, Sequence

from zfuse.format.flat import Table, required
from zfuse.format.flat_writer import REF, FlatWriter, utf8
from zfuse.format.values import Decoder, Json
from zfuse.format.values_encoder import Encoder


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


def encode_items(w: FlatWriter, items: Mapping[str, object], encode: Encoder) -> int:
    """Write *items*, sorted by name, each value by *encode*; return the place of the vector.

    Raises:
        InvalidInputError: a value is not one that JSON has.
    """
    return w.offsets(
        [
            w.table((0, REF, w.string(name)), (1, REF, w.byte_vector(encode(items[name]))))
            for name in sorted(items, key=utf8)
        ]
    )
