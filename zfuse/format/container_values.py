"""Virtual chunk containers as the configuration of a repository keeps them, and what they may say.

Credentials are no part of them: whoever reads brings their own.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from zfuse.errors import InvalidInputError
from zfuse.format.config import (
    SCHEMES,
    RepositoryConfig,
    StoreConfig,
    VirtualChunkContainer,
    is_prefix,
)
from zfuse.format.config_settings import CONTAINERS_KEY

S3_KINDS: Final = frozenset({"s3", "s3_compatible", "tigris"})
CHECKSUM_ALGORITHMS: Final = ("crc32", "crc32c", "crc64_nvme", "sha1", "sha256")

_S3_DEFAULTS: Final[Mapping[str, Any]] = {
    "region": None,
    "endpoint_url": None,
    "anonymous": False,
    "allow_http": False,
    "force_path_style": False,
    "network_stream_timeout_seconds": 60,
    "requester_pays": False,
    "checksum_algorithm": None,
}
_SECRET: Final = re.compile(
    r"secret|passw|token|credential|bearer|authorization|cookie|signature|api[-_]?key"
    r"|access[-_]?key|account[-_]?key|private[-_]?key|service[-_]?account|(^|[-_])sas([-_]|$)",
    re.IGNORECASE,
)
_U32: Final = 1 << 32


def container_values(container: VirtualChunkContainer) -> dict[str, Any]:
    """Return the values that stand for *container* in a configuration, every field named.

    Raises:
        InvalidInputError: the container is not valid; the message says what to write.
    """
    check_container(container)
    kind, options = container.store.kind, container.store.options
    content: Any = dict(options)
    if kind == "local_file_system":
        content = options["path"]
    elif kind in S3_KINDS:
        # As the official library has it, which leaves this one to the library below for tigris.
        timeout = {"network_stream_timeout_seconds": None} if kind == "tigris" else {}
        content = {**_S3_DEFAULTS, **timeout, **options}
    return {
        "name": container.name,
        "url_prefix": container.url_prefix,
        "store": {kind: content},
    }


def declares(values: object, container: VirtualChunkContainer) -> bool:
    """Tell whether *values*, from a configuration, stand for just this container.

    Fields that older writers did not know count as their defaults.
    """
    config = RepositoryConfig.from_values({CONTAINERS_KEY: {container.url_prefix: values}})
    found = config.virtual_chunk_containers.get(container.url_prefix)
    if found is None:
        return False
    try:
        return container_values(found) == container_values(container)
    except InvalidInputError:
        return False


def check_container(container: VirtualChunkContainer) -> None:
    """Refuse a container that the official library would not take, or that holds a secret.

    Raises:
        InvalidInputError: the message says what to write.
    """
    check_place(container)
    _check_store(container.store)


def check_place(container: VirtualChunkContainer) -> None:
    """Refuse a prefix or a name that no container of that kind of store can have.

    Raises:
        InvalidInputError: the message says what to write.
    """
    prefix, kind, name = container.url_prefix, container.store.kind, container.name
    if kind not in SCHEMES:
        raise InvalidInputError(f"{kind!r} is no kind of store; write {', '.join(SCHEMES)}")
    if not prefix.endswith("/"):
        raise InvalidInputError(
            f"the prefix of a container ends with a slash, so that s3://bucket/data does not"
            f" hold s3://bucket/database: write {prefix}/"
        )
    schemes = [f"{scheme}://" for scheme in SCHEMES[kind]]
    if not prefix.lower().startswith(tuple(schemes)):
        raise InvalidInputError(
            f"{prefix} is not in a store of the kind {kind}, where URLs start with"
            f" {' or '.join(schemes)}"
        )
    if "@" in prefix.partition("://")[2].partition("/")[0]:
        raise InvalidInputError(
            "the prefix names a user or a password, which a repository must not hold: write it"
            " without them"
        )
    if not is_prefix(prefix, kind):
        example = "file:///directory/" if kind == "local_file_system" else f"{schemes[0]}bucket/"
        raise InvalidInputError(f"{prefix} names no place; write a prefix such as {example}")
    if name is not None and (not name or "/" in name):
        raise InvalidInputError(
            f"{name!r} can not be the name of a container, which has no slash and is not empty"
        )


def check_containers(values: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Refuse containers that the official library would not take, or that hold a secret.

    *values* are the settings to be stored; containers pass that are as in the settings *before*.

    Raises:
        InvalidInputError: the message names the container, or says what to write.
    """
    known, new = raw_containers(before), raw_containers(values)
    valid = RepositoryConfig.from_values({CONTAINERS_KEY: new}).virtual_chunk_containers
    for key, each in new.items():
        if known.get(key) == each:
            continue
        if key not in valid:
            raise InvalidInputError(f"the container {key} is not valid: its settings are {each}")
        check_container(valid[key])


def raw_containers(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the containers of a configuration as it stores them, by their keys."""
    found = values.get(CONTAINERS_KEY)
    return found if isinstance(found, Mapping) else {}


def _check_store(store: StoreConfig) -> None:
    kind, options = store.kind, store.options
    if kind == "local_file_system":
        if set(options) != {"path"} or not isinstance(options["path"], str) or not options["path"]:
            raise InvalidInputError(
                "a store of the kind local_file_system has a path, nothing else"
            )
    elif kind in S3_KINDS:
        for name, value in options.items():
            _check_s3_option(kind, name, value)
    else:
        for name, value in options.items():
            _check_free_option(kind, name, value)
        if kind == "azure" and "account" not in options:
            raise InvalidInputError(
                "a store of the kind azure needs the option account, such as account=NAME"
            )


def _check_s3_option(kind: str, name: str, value: object) -> None:
    _check_no_secret(name)
    match name:
        case "region" | "endpoint_url":
            fits = value is None or isinstance(value, str)
        case "network_stream_timeout_seconds":
            is_number = isinstance(value, int) and not isinstance(value, bool)
            fits = value is None or (is_number and 0 <= int(str(value)) < _U32)
        case "checksum_algorithm":
            fits = value is None or value in CHECKSUM_ALGORITHMS
        case _ if name in _S3_DEFAULTS:
            fits = isinstance(value, bool)
        case _:
            raise InvalidInputError(
                f"a store of the kind {kind} has no option {name!r}; it has"
                f" {', '.join(_S3_DEFAULTS)}"
            )
    if not fits:
        raise InvalidInputError(f"{value!r} can not be the {name} of a store of the kind {kind}")


def _check_free_option(kind: str, name: str, value: object) -> None:
    """Check an option that is passed on to the library below: text, or headers of HTTP."""
    _check_no_secret(name)
    if kind == "http" and name == "headers" and isinstance(value, Mapping):
        for header, content in value.items():
            _check_free_option(kind, f"header {header}", content)
    elif not isinstance(value, str):
        raise InvalidInputError(f"{name} = {value!r}: options of a store {kind} are texts")


def _check_no_secret(name: str) -> None:
    if _SECRET.search(name):
        raise InvalidInputError(
            f"{name} looks like a secret, which a repository must not hold: whoever reads it"
            " brings their own (--allow-virtual PREFIX=env or =profile:NAME)"
        )
