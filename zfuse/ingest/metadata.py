"""From the metadata of a source to the zarr.json of a node.

Zarr v3 metadata stay as they are, but for the names of chunks: Icechunk has its own. Those of
v2 are translated by the rules of the Zarr v3 specification and of the codecs that zarr-python
registers; what v3 can not express is refused.
"""

import base64
import json
import math
import struct
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

from zfuse.errors import InvalidInputError
from zfuse.ingest.v2_codecs import codecs_of_v2

_KEYS: Final[Any] = {
    "name": "default",
    "configuration": {"separator": "/"},
}
_V2_MEMBERS: Final = frozenset(
    {"zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters"}
    | {"dimension_separator"}
)
_MASKED_TYPES: Final = ("bool", "int", "uint", "float", "complex")
_MISSING: Final = frozenset({"_FillValue", "missing_value"})


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """Return the zarr.json of a group."""
    attributes = json_attributes(attributes)
    return _dump({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def v3_document(name: str, document: Mapping[str, Any]) -> bytes:
    """Return the zarr.json for v3 metadata of the node that errors call *name*.

    Consolidated metadata are left out: nothing would keep them true.

    Raises:
        InvalidInputError: Icechunk can not hold it.
    """
    kept = {key: value for key, value in document.items() if key != "consolidated_metadata"}
    kept["attributes"] = json_attributes(kept.get("attributes") or {})
    if kept.get("node_type") == "array":
        if kept.get("storage_transformers"):
            raise InvalidInputError(
                f"array {name} has storage transformers, which Icechunk can not hold"
            )
        kept["chunk_key_encoding"] = _KEYS
    return _dump(kept)


def v2_document(name: str, zarray: Mapping[str, Any], attributes: Mapping[str, Any]) -> bytes:
    """Return the zarr.json for a ``.zarray`` and its ``.zattrs``.

    Raises:
        InvalidInputError: v3 can not express it; this names the array and what it is about.
    """
    given = {key: value for key, value in zarray.items() if key in _V2_MEMBERS}
    if isinstance(given.get("dtype"), list):
        raise InvalidInputError(
            f"array {name} has the structured data type {given['dtype']}, which Zarr v3 has no"
            " standard for; leave it out with --skip, or copy its fields to arrays of their own"
        )
    given["chunks"] = [length or 1 for length in given.get("chunks") or ()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that strings have no standard yet in v3
        try:
            metadata = ArrayV2Metadata.from_dict({**given, "attributes": {}})
        except Exception as exc:
            raise InvalidInputError(f"array {name}: {_one_line(exc)}") from exc
        fill_value: Any = metadata.fill_value
        if fill_value is None:
            fill_value = metadata.dtype.default_scalar()
        rank = len(metadata.shape)
        kept, names = _dimension_names(zarray, attributes, rank)
        _keep_mask(kept, metadata)
        codecs = codecs_of_v2(name, metadata)
        try:
            converted = ArrayV3Metadata(
                shape=metadata.shape,
                data_type=metadata.dtype,
                chunk_grid={
                    "name": "regular",
                    "configuration": {"chunk_shape": list(metadata.chunks)},
                },
                chunk_key_encoding=_KEYS,
                fill_value=fill_value,
                codecs=codecs,
                attributes={},
                dimension_names=names,
                storage_transformers=None,
            ).to_dict()
        except Exception as exc:
            raise InvalidInputError(
                f"array {name}: Zarr v3 can not express it: {_one_line(exc)}"
            ) from exc
    return v3_document(name, {**converted, "attributes": kept})


def _dimension_names(
    zarray: Mapping[str, Any], attributes: Mapping[str, Any], rank: int
) -> tuple[dict[str, Any], Sequence[str] | None]:
    """Return the attributes without the names of dimensions, and those, None if there are none.

    xarray keeps them in an attribute, netCDF in a member of its own.
    """
    kept = dict(attributes)
    names = kept.get("_ARRAY_DIMENSIONS")
    if _are_names(names, rank):
        del kept["_ARRAY_DIMENSIONS"]
        return kept, names
    references = zarray.get("_NCZARR_ARRAY") or kept.get("_nczarr_array") or {}
    names = references.get("dimrefs") if isinstance(references, dict) else None
    if isinstance(names, list) and _are_names(names, rank):
        return kept, [name.rpartition("/")[2] for name in names]
    return kept, None


def _are_names(names: object, rank: int) -> bool:
    return (
        isinstance(names, list)
        and len(names) == rank
        and all(isinstance(name, str) for name in names)
    )


def _keep_mask(attributes: dict[str, Any], metadata: Any) -> None:  # noqa: ANN401 - zarr's class
    """Say in the attribute ``_FillValue`` what the fill value of v2 says to xarray.

    xarray takes that of v2 for missing data, that of v3 only if the attribute repeats it, in
    an encoding of its own, and of strings the attribute ``missing_value``. Where v2 has none it
    takes the attribute, as a plain number. What it could not read goes, as it would open none
    of the arrays then.
    """
    given = attributes.pop("_FillValue", None)
    value = metadata.fill_value
    if value is None:
        value = given[0] if isinstance(given, list) and len(given) == 1 else given
        if not isinstance(value, int | float):
            return
    dtype = metadata.dtype.to_native_dtype()
    encoded = encoded_fill_value(value, dtype)
    if encoded is not None:
        attributes["_FillValue"] = encoded
    elif dtype.kind in "UT":
        attributes.setdefault("missing_value", str(value))


def encoded_fill_value(value: Any, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401 - a scalar, JSON
    """Return *value* as xarray keeps it in the attribute ``_FillValue`` of an array of *dtype*.

    None stands for types whose fill values it can not read back, and for numbers that no value
    of *dtype* equals.
    """
    encoded: Any = None
    match dtype.kind:
        case "f":
            encoded = _base64(struct.pack("<d", float(value)))
        case "i" | "u" if float(value).is_integer():
            encoded = int(value)
        case "b":
            encoded = bool(value)
        case "c":
            parts = (np.real(value), np.imag(value))
            encoded = [_base64(struct.pack("<d", float(part))) for part in parts]
        case _:
            pass
    return encoded


def without_strange_mask(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an array of v3 without a ``_FillValue`` that xarray can not read.

    That is one of strings, bytes or times: it would open none of the arrays beside it. For
    strings it takes ``missing_value`` instead.
    """
    attributes = dict(document.get("attributes") or {})
    kind = document.get("data_type")
    if not (isinstance(kind, str) and kind.startswith(_MASKED_TYPES)):
        value = attributes.pop("_FillValue", None)
        if kind == "string" and isinstance(value, str):
            attributes.setdefault("missing_value", value)
    return {**document, "attributes": attributes}


def _base64(data: bytes) -> str:
    return base64.standard_b64encode(data).decode()


def json_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return *attributes* as strict JSON has them.

    Numbers that JSON does not know become the strings that Zarr has for them ("NaN"). An
    attribute that says that NaN is missing says nothing, and is left out.
    """
    return {
        str(key): _json(value)
        for key, value in attributes.items()
        if not (key in _MISSING and isinstance(value, float | np.floating) and math.isnan(value))
    }


def _json(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    plain: Any
    match value:
        case bool() | int() | str() | None:
            plain = value
        case float():
            plain = value if math.isfinite(value) else _special(value)
        case bytes():
            plain = value.decode(errors="replace")
        case Mapping():
            plain = {str(key): _json(item) for key, item in value.items()}
        case list() | tuple():
            plain = [_json(item) for item in value]
        case _:
            plain = str(value)
    return plain


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(_json(document), indent=2, ensure_ascii=False).encode()


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())
