"""From the filters and the compressor of a Zarr v2 array to the codecs of v3.

A v2 chunk is what its filters make of an array, one after the other, and its compressor of
that. v3 has the same in three stages: arrays to arrays, one step from an array to bytes, and
bytes to bytes.
"""

from typing import Any, Final

import numpy as np
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec
from zarr.registry import get_codec_class

from zfuse.errors import InvalidInputError

_SERIALIZERS: Final = {"vlen-utf8": "vlen-utf8", "vlen-bytes": "vlen-bytes"}
_MAX_TYPESIZE: Final = 255
_SHUFFLES: Final = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


def codecs_of_v2(name: str, metadata: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - zarr's
    """Return the codecs, as in a zarr.json, of the v2 array *metadata* that errors call *name*.

    Raises:
        InvalidInputError: v3 has no codec for one of the filters, or they come in an order
            that v3 does not have.
    """
    stages = _Stages(name)
    rank = len(metadata.shape)
    if metadata.order == "F" and rank > 1:
        order = list(range(rank - 1, -1, -1))
        stages.arrays.append({"name": "transpose", "configuration": {"order": order}})
    dtype = metadata.dtype.to_native_dtype()
    for codec in metadata.filters or ():
        stages.add(codec, dtype)
        dtype = _encoded_type(codec, dtype) if not stages.is_bytes else dtype
    serializer = stages.serializer or _bytes_codec(dtype)
    if metadata.compressor is not None:
        stages.add(metadata.compressor, dtype)
        serializer = stages.serializer or serializer
    return [*stages.arrays, serializer, *stages.bytes]


class _Stages:
    def __init__(self, name: str) -> None:
        self.arrays: list[dict[str, Any]] = []
        self.serializer: dict[str, Any] | None = None
        self.bytes: list[dict[str, Any]] = []
        self._name = name

    @property
    def is_bytes(self) -> bool:
        """Whether the codecs so far end in bytes."""
        return bool(self.serializer or self.bytes)

    def add(self, codec: Any, dtype: np.dtype[Any]) -> None:  # noqa: ANN401 - a numcodecs codec
        """Add a filter, or the compressor, for data of *dtype*."""
        identifier = codec.codec_id
        if identifier in _SERIALIZERS and not self.is_bytes:
            self.serializer = {"name": _SERIALIZERS[identifier], "configuration": {}}
            return
        if identifier in _NATIVE:
            self.bytes.append(_NATIVE[identifier](codec, dtype))
            return
        if identifier == "quantize" and not self.is_bytes:
            self.arrays += _quantize(codec, dtype)
            return
        configuration = {key: value for key, value in codec.get_config().items() if key != "id"}
        document_name = f"numcodecs.{identifier}"
        document = {"name": document_name, "configuration": configuration}
        try:
            kind = get_codec_class(document_name)
        except Exception as exc:
            raise InvalidInputError(
                f"array {self._name} has the codec {identifier!r}, which Zarr v3 can not express;"
                " leave the array out with --skip, or write it anew with another codec"
            ) from exc
        if issubclass(kind, ArrayArrayCodec | ArrayBytesCodec) and self.is_bytes:
            raise InvalidInputError(
                f"array {self._name} has the codec {identifier!r} behind one that makes bytes,"
                " an order that Zarr v3 can not express"
            )
        if issubclass(kind, ArrayArrayCodec):
            self.arrays.append(document)
        elif issubclass(kind, ArrayBytesCodec):
            self.serializer = document
        else:
            self.bytes.append(document)


def _encoded_type(codec: Any, dtype: np.dtype[Any]) -> np.dtype[Any]:  # noqa: ANN401 - numcodecs
    """Return the type of the data behind a filter from arrays to arrays."""
    encoded: np.dtype[Any] = dtype
    match codec.codec_id:
        case "packbits":
            encoded = np.dtype("u1")
        case "astype":
            encoded = np.dtype(codec.encode_dtype)
        case "delta" | "fixedscaleoffset" | "quantize" | "categorize":
            encoded = np.dtype(codec.astype)
        case _:
            pass
    return encoded


def _quantize(codec: Any, dtype: np.dtype[Any]) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return what Quantize does to data of *dtype*.

    That of v3 never changes the type, nor looks at the order of bytes, which the codec after it
    has undone by then.
    """
    native, encoded = (np.dtype(d).newbyteorder("=") for d in (dtype, codec.astype))
    codecs = []
    if native != encoded:
        types = {"encode_dtype": encoded.str, "decode_dtype": native.str}
        codecs.append({"name": "numcodecs.astype", "configuration": types})
    configuration = {"digits": codec.digits, "dtype": encoded.str, "astype": encoded.str}
    return [*codecs, {"name": "numcodecs.quantize", "configuration": configuration}]


def _bytes_codec(dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.kind in "SVTO" or dtype.itemsize == 1:
        return {"name": "bytes"}
    endian = "big" if dtype.byteorder == ">" else "little"
    return {"name": "bytes", "configuration": {"endian": endian}}


def _blosc(codec: Any, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ANN401 - numcodecs
    automatic = "bitshuffle" if dtype.itemsize == 1 else "shuffle"
    return {
        "name": "blosc",
        "configuration": {
            "typesize": min(max(dtype.itemsize, 1), _MAX_TYPESIZE),
            "cname": codec.cname,
            "clevel": codec.clevel,
            "shuffle": _SHUFFLES.get(codec.shuffle, automatic),
            "blocksize": codec.blocksize,
        },
    }


def _zstd(codec: Any, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ANN401
    configuration = {"level": codec.level, "checksum": bool(getattr(codec, "checksum", False))}
    return {"name": "zstd", "configuration": configuration}


def _gzip(codec: Any, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ANN401
    return {"name": "gzip", "configuration": {"level": min(max(codec.level, 0), 9)}}


_NATIVE: Final = {"blosc": _blosc, "zstd": _zstd, "gzip": _gzip}
