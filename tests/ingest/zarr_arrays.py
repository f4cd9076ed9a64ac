"""Zarr arrays of every kind that an ingest has to carry over."""

import warnings

import numcodecs
import numpy as np
import zarr

GRID = np.arange(60).reshape(6, 10)
COMPRESSORS = {
    "uncompressed": None,
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "zstd": numcodecs.Zstd(),
    "blosc": numcodecs.Blosc(),
    "blosc_automatic": numcodecs.Blosc(shuffle=-1),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
}
TYPES = {"little_int": "<i4", "big_int": ">i4", "little_float": "<f8", "big_float": ">f8"}


def _filters(dtype):
    return {
        "delta": numcodecs.Delta(dtype=dtype),
        "delta_short": numcodecs.Delta(dtype=dtype, astype="<i2"),
        "scale": numcodecs.FixedScaleOffset(offset=10, scale=2, dtype=dtype, astype="<i2"),
        "scale_big": numcodecs.FixedScaleOffset(offset=10, scale=2, dtype=dtype, astype=">i2"),
        "astype": numcodecs.AsType(encode_dtype="<f4", decode_dtype=dtype),
    }


def _make(group, name, values, chunks, **how):
    """Write an array whose last chunk is missing."""
    how.setdefault("compressors", None if group.metadata.zarr_format == 2 else ())
    array = group.create_array(
        name, shape=values.shape, chunks=chunks, dtype=how.pop("dtype", values.dtype), **how
    )
    array[...] = values
    if array.ndim == 2:
        array[-2:, -2:] = array.fill_value if array.fill_value is not None else 0


def make_v2(path) -> None:
    """Write a v2 store with one array for each codec, filter, order, type and fill value."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, compressor in COMPRESSORS.items():
            for order in "CF":
                _make(
                    group, f"{name}_{order}", GRID.astype("f8"), (4, 4),
                    compressors=compressor, order=order,
                )  # fmt: skip
        for kind, dtype in TYPES.items():
            for order in "CF":
                _make(group, f"{kind}_{order}", GRID.astype(dtype), (4, 4), order=order)
                for name, codec in _filters(dtype).items():
                    _make(
                        group, f"{name}_{kind}_{order}", GRID.astype(dtype), (4, 4),
                        filters=[codec], order=order, compressors=numcodecs.Zlib(),
                    )  # fmt: skip
        _make_odd(group)
        _make_types(group)


def _make_odd(group) -> None:
    thirds = GRID / 3
    _make(group, "quantize", thirds, (4, 4), filters=[numcodecs.Quantize(2, "<f8")])
    for name, dtype, short in (
        ("big", ">f8", ">f8"),
        ("short", "<f8", "<f4"),
        ("both", ">f8", ">f4"),
    ):
        quantize = [numcodecs.Quantize(2, dtype, astype=short)]
        for order in "CF":
            _make(
                group, f"quantize_{name}_{order}", thirds.astype(dtype), (4, 4),
                filters=quantize, order=order,
            )  # fmt: skip
    _make(group, "bitround", thirds.astype("f4"), (4, 4), filters=[numcodecs.BitRound(8)])
    _make(group, "packbits", GRID % 3 == 0, (4, 4), filters=[numcodecs.PackBits()])
    both = [numcodecs.Delta(dtype="<i8", astype="<i4"), numcodecs.Delta(dtype="<i4")]
    _make(group, "two_filters", GRID.astype("i8"), (4, 4), filters=both)
    shuffle = [numcodecs.Shuffle(elementsize=8)]
    _make(
        group, "shuffle", GRID.astype("i8"), (4, 4), filters=shuffle, compressors=numcodecs.Zlib()
    )
    _make(group, "checksum", GRID.astype("i8"), (4, 4), filters=[numcodecs.CRC32()])
    _make(group, "slash", GRID, (4, 4), chunk_key_encoding={"name": "v2", "separator": "/"})
    for name, value in {"none": None, "nan": np.nan, "seven": 7.0, "infinity": np.inf}.items():
        array = group.create_array(
            f"fill_{name}", shape=(4,), chunks=(2,), dtype="f8", fill_value=value
        )
        array[:2] = 1


def _make_types(group) -> None:
    _make(group, "bool", GRID % 2 == 0, (4, 4))
    _make(group, "complex", GRID * 1j, (4, 4))
    _make(group, "half", GRID.astype("f2"), (4, 4))
    _make(group, "bytes", np.array([b"ab", b"c"]), (1,))
    _make(group, "text", np.array(["aé", "c"]), (1,))
    _make(group, "text_big", np.array(["aé", "c"], dtype=">U4"), (1,))
    _make(group, "text_any", np.array(["a", "ééé", ""], dtype=object), (2,), dtype=str)
    _make(group, "raw", np.array([b"abc", b"def"], dtype="V3"), (1,))
    dates = np.array(["2001-01-01", "NaT"], dtype="M8[ns]")
    _make(group, "date", dates, (1,))
    _make(group, "date_big", dates.astype(">M8[D]"), (1,))
    _make(group, "duration", np.array([5, 6], dtype="m8[s]"), (1,))
    _make(group, "scalar", np.array(5.5), ())
    group.create_array("scalar_unwritten", shape=(), dtype="i4", fill_value=3)
    group.create_array("unwritten", shape=(4, 4), chunks=(2, 2), dtype="i4")
    group.create_array("empty", shape=(0, 3), chunks=(1, 3), dtype="i4")


def make_v3(path) -> None:
    """Write a v3 store with one array for each way to name chunks, codec and type."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    codecs = zarr.codecs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kind, separator in (
            ("default_slash", "default", "/"),
            ("default_dot", "default", "."),
            ("v2_dot", "v2", "."),
            ("v2_slash", "v2", "/"),
        ):
            encoding = {"name": kind, "separator": separator}
            _make(group, name, GRID, (4, 4), chunk_key_encoding=encoding)
            _make(group, f"{name}_line", GRID[0], (4,), chunk_key_encoding=encoding)
            _make(group, f"{name}_scalar", np.array(7), (), chunk_key_encoding=encoding)
        for name, codec in (
            ("gzip", codecs.GzipCodec()),
            ("zstd", codecs.ZstdCodec()),
            ("blosc", codecs.BloscCodec()),
            ("crc32c", codecs.Crc32cCodec()),
        ):
            _make(group, name, GRID, (4, 4), compressors=codec)
        transposed = (codecs.TransposeCodec(order=(1, 0)),)
        _make(group, "transposed", GRID, (4, 4), filters=transposed)
        big = codecs.BytesCodec(endian="big")
        _make(group, "big", GRID, (4, 4), serializer=big)
        _make(group, "sharded", GRID, (2, 2), shards=(4, 4))
        _make(group, "text_any", np.array(["a", "ééé", ""], dtype=object), (2,), dtype=str)
        _make(group, "bytes", np.array([b"ab", b"c"]), (1,))
        _make(group, "date", np.array(["2001-01-01", "NaT"], dtype="M8[ns]"), (1,))
        group.create_array("unwritten", shape=(4, 4), chunks=(2, 2), dtype="i4", fill_value=9)
