"""Files that others wrote, for those who read foreign formats: found, measured and read.

Parsers of such formats know neither trio nor zfuse's storages: they call, and wait. So does
everything here; run it in worker threads. Local files are looked at directly, others through
obstore, whose listings are columns: a million files take no million Python objects.

Places are URLs in the form that virtual locations have (``file:///a%20b``, percent-encoded).
"""

import errno
import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from zfuse.errors import (
    AccessDeniedError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    ZfuseError,
)
from zfuse.storage.obstore_s3 import s3_settings
from zfuse.storage.options import StorageOptions

_LISTED_AT_ONCE: Final = 20_000
_LITERAL: Final = "/!$&'()*+,;=:@~"  # what a path in a URL holds as it is (RFC 3986)
_STRANGE: Final = frozenset({"", ".", ".."})
_S3_SCHEMES: Final = frozenset({"s3", "s3a", "s3n"})


class Texts(NamedTuple):
    """Byte strings, a row each: where they start in *data*, and their sizes (-1 for none)."""

    data: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FileColumns:
    """What is known of files, a row each.

    ``modified_ns`` is in nanoseconds since 1970. ``names`` are below the place that was
    listed; where ``etags`` has nothing the store has no lasting one.
    """

    names: Texts
    sizes: npt.NDArray[np.uint64]
    modified_ns: npt.NDArray[np.int64]
    etags: Texts


class ForeignFiles(Protocol):
    """The files below one root; keys are literal, without a slash in front."""

    def list(self, prefix: str) -> FileColumns:
        """Return all files whose keys begin with *prefix*, which ends with a slash, or is ""."""
        ...

    def head(self, key: str) -> FileColumns:
        """Return the one row of a file.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def read(self, key: str, start: int = 0, size: int | None = None) -> bytes:
        """Return the bytes from *start* on, at most *size* of them.

        Raises:
            NotFoundError: there is no such file.
        """
        ...


def canonical_url(text: str) -> str:
    """Return the URL of what a person names: a path, a ``file://`` URL, ``s3://bucket/key``...

    Keys of buckets are taken literally; URLs of files and of HTTP are encoded already. Paths
    are absolute then, without ``.`` and ``..``, which readers of locations do not go along with.

    Raises:
        InvalidInputError: zfuse can not read from there.
    """
    scheme, mark, rest = text.partition("://")
    if not mark:
        return _url_of_path(text)
    scheme = scheme.lower()
    if scheme == "file":
        host, _, path = rest.partition("/")
        if host not in {"", "localhost"}:
            raise InvalidInputError(f"{text} is on another host; write file:///DIRECTORY/FILE")
        return _url_of_path("/" + unquote(path))
    if scheme in _S3_SCHEMES:
        return _url_of_object(text, rest)
    if scheme in {"http", "https"}:
        if "?" in rest or "#" in rest or "@" in rest.partition("/")[0]:
            raise InvalidInputError(
                f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}: a virtual chunk can"
                " have neither credentials nor a query in its URL"
            )
        return f"{scheme}://{rest}".rstrip("/")
    raise InvalidInputError(f"{text}: no virtual chunk container reads {scheme}:// in zfuse")


def _url_of_path(text: str) -> str:
    parts = Path(text).absolute().parts[1:]  # of which none is "."
    if ".." in parts:
        # As the system finds it: up from where a link leads to, not from where the link is.
        end = len(parts) - parts[::-1].index("..")
        parts = (*Path("/", *parts[:end]).resolve().parts[1:], *parts[end:])
    return url_of("file:///", "/".join(parts))


def _url_of_object(text: str, rest: str) -> str:
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise InvalidInputError(f"{text} names no bucket; write s3://BUCKET/KEY")
    key = key.rstrip("/")
    if key and not _STRANGE.isdisjoint(key.split("/")):
        raise InvalidInputError(
            f"{text}: no reader of virtual chunks finds keys with '//', '/./' or '/../'"
        )
    return url_of(f"s3://{bucket}/", key).rstrip("/")


def split_url(url: str) -> tuple[str, str]:
    """Return the root that *url* lies in (``s3://bucket/``, ``file:///``) and its literal key."""
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    return f"{scheme}://{authority}/", unquote(path)


def url_of(root: str, key: str) -> str:
    """Return the URL of a literal *key* below *root*."""
    return root + quote(key, safe=_LITERAL)


def below(key: str) -> str:
    """Return how all keys below a literal *key* begin; those of a root begin anyhow."""
    return f"{key}/" if key else ""


def is_plain(data: npt.NDArray[np.uint8]) -> bool:
    """Tell whether URLs hold all these bytes of keys as they are."""
    return bool(_PLAIN[data].all())


_PLAIN: Final = np.array([quote(bytes([n]), safe=_LITERAL) == chr(n) for n in range(256)])


class ObjectAccess:
    """Opens the roots of foreign files with one set of options, each once."""

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        self._stores: dict[str, Any] = {}

    def files(self, root: str) -> ForeignFiles:
        """Return the files below *root*."""
        if root == "file:///":
            return LocalFiles()
        return _ObstoreFiles(root, self.obstore(root))

    def head(self, url: str) -> FileColumns:
        """Return the one row of the file at *url*; see ``ForeignFiles.head``."""
        root, key = split_url(url)
        return self.files(root).head(key)

    def obstore(self, root: str) -> Any:  # noqa: ANN401 - obstore's stores share no class
        """Return obstore's store for *root*, for parsers that want one."""
        if root not in self._stores:
            with _translated(root):
                self._stores[root] = _obstore(root, self._options)
        return self._stores[root]

    def registry(self) -> Any:  # noqa: ANN401 - an ObjectStoreRegistry
        """Return what VirtualiZarr's parsers find their stores with."""
        return _registry_class()(self)


@cache
def _registry_class() -> type:
    parent: Any = import_module("obspec_utils.registry").ObjectStoreRegistry

    class Registry(parent):  # type: ignore[misc]  # a class that is imported late
        """Finds stores by URL, with keys decoded, which the ordinary registry leaves alone."""

        def __init__(self, access: ObjectAccess) -> None:
            super().__init__()
            self._access = access

        def resolve(self, url: str) -> tuple[Any, str]:
            """Return the store of *url*, and the key there."""
            root, key = split_url(url)
            return self._access.obstore(root), key

    return Registry


# --- local files ---------------------------------------------------------------------------------


class LocalFiles:
    """All local files; keys are absolute paths without the first slash."""

    def list(self, prefix: str) -> FileColumns:
        """Return the files below a directory; one that is not there has none."""
        rows = _LocalRows()
        root = os.fsencode("/" + prefix)
        pending: list[tuple[bytes, tuple[tuple[int, int], ...]]] = [(b"", ())]
        with _translated("/" + prefix):
            while pending:
                below, above = pending.pop()
                try:
                    # By its descriptor each file in it is found without walking the path again.
                    directory = os.open(root + below, os.O_RDONLY | os.O_DIRECTORY)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # as with a prefix of a bucket, or gone since it was listed
                try:
                    found = os.fstat(directory)
                    itself = found.st_dev, found.st_ino
                    if itself in above:
                        raise InvalidInputError(
                            f"{os.fsdecode(root + below)} is a link to a directory that it lies in"
                        )
                    with os.scandir(directory) as entries:
                        directories = rows.add(below, entries)
                    pending += [(name, (*above, itself)) for name in directories]
                finally:
                    os.close(directory)
        return rows.columns()

    def head(self, key: str) -> FileColumns:
        """Return the one row of a file."""
        with _translated("/" + key):
            found = os.stat("/" + key)
        if stat.S_ISDIR(found.st_mode):
            raise InvalidInputError(f"/{key} is a directory")
        rows = _LocalRows()
        rows.add_row(os.fsencode(key), found)
        return rows.columns()

    def read(self, key: str, start: int = 0, size: int | None = None) -> bytes:
        """Return some bytes of a file."""
        with _translated("/" + key), open("/" + key, "rb", opener=_open_at_once) as file:
            file.seek(start)
            return file.read(-1 if size is None else size)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # nobody may ever write to a pipe


class _LocalRows:
    """Gathers rows without keeping objects for them."""

    def __init__(self) -> None:
        self._names = bytearray()
        self._name_sizes, self._sizes, self._modified = array("q"), array("Q"), array("q")

    def add(self, below: bytes, entries: Iterator[os.DirEntry[str]]) -> list[bytes]:
        """Add the files of a directory; return the directories in it."""
        directories = []
        for entry in entries:
            name = below + os.fsencode(entry.name)
            try:
                if entry.is_dir():
                    directories.append(name + b"/")
                else:
                    self.add_row(name, entry.stat())
            except OSError as exc:
                if exc.errno not in {errno.ENOENT, errno.ELOOP}:  # a link that leads nowhere
                    raise
        return directories

    def add_row(self, name: bytes, found: os.stat_result) -> None:
        self._names += name
        self._name_sizes.append(len(name))
        self._sizes.append(found.st_size)
        self._modified.append(found.st_mtime_ns)

    def columns(self) -> FileColumns:
        sizes = np.frombuffer(self._name_sizes, np.int64)
        data = np.frombuffer(bytes(self._names), np.uint8)
        names = Texts(data, np.cumsum(sizes) - sizes, sizes)
        nothing = Texts(
            np.empty(0, np.uint8), np.zeros(len(sizes), np.int64), np.full(len(sizes), -1)
        )
        return FileColumns(
            names,
            np.frombuffer(self._sizes, np.uint64),
            np.frombuffer(self._modified, np.int64),
            nothing,
        )


# --- object stores -------------------------------------------------------------------------------


class _ObstoreFiles:
    """The files of a bucket, or of an HTTP server."""

    def __init__(self, root: str, store: Any) -> None:  # noqa: ANN401 - obstore's stores
        self._root = root
        self._store = store

    def list(self, prefix: str) -> FileColumns:
        """Return all files below a prefix."""
        if not self._root.startswith("s3:"):
            raise InvalidInputError(
                f"{url_of(self._root, prefix)}: HTTP servers list no files, so a Zarr store on"
                " one can not be referenced; make kerchunk references to it"
            )
        batches = []
        with _translated(url_of(self._root, prefix)):
            listing = self._store.list(prefix, chunk_size=_LISTED_AT_ONCE, return_arrow=True)
            # One column at a time becomes Python objects, and not for long.
            batches += [_columns_of_batch(batch, len(prefix.encode())) for batch in listing]
        return joined_columns(batches)

    def head(self, key: str) -> FileColumns:
        """Return the one row of a file."""
        with _translated(url_of(self._root, key)):
            found = self._store.head(key)
        modified = round(found["last_modified"].timestamp() * 1e6) * 1000
        return FileColumns(
            _texts([key]),
            np.array([found["size"]], np.uint64),
            np.array([max(modified, 0)], np.int64),
            # Official readers send etags without their quotes, which web servers never match.
            _texts([found["e_tag"] if self._root.startswith("s3:") else None]),
        )

    def read(self, key: str, start: int = 0, size: int | None = None) -> bytes:
        """Return some bytes of a file."""
        with _translated(url_of(self._root, key)):
            if size is not None:
                return bytes(self._store.get_range(key, start=start, length=size))
            data = self._store.get(key).bytes()
        return bytes(memoryview(data)[start:])


def _columns_of_batch(batch: Any, skipped: int) -> FileColumns:  # noqa: ANN401 - arro3
    integers: Any = import_module("arro3.core").DataType.int64()
    names = _texts(batch.column("path").to_numpy())
    return FileColumns(
        names._replace(starts=names.starts + skipped, sizes=names.sizes - skipped),
        np.asarray(batch.column("size").to_numpy(), np.uint64),
        np.asarray(batch.column("last_modified").cast(integers).to_numpy(), np.int64) * 1000,
        _texts(batch.column("e_tag").to_numpy()),
    )


def _texts(values: Iterable[str | None]) -> Texts:
    encoded = [None if value is None else value.encode() for value in values]
    sizes = np.array([-1 if value is None else len(value) for value in encoded], np.int64)
    data = np.frombuffer(b"".join(value for value in encoded if value is not None), np.uint8)
    needed = np.maximum(sizes, 0)
    return Texts(data, np.cumsum(needed) - needed, sizes)


def joined_columns(parts: list[FileColumns]) -> FileColumns:
    """Return the rows of all *parts*, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return FileColumns(
        _joined_texts([part.names for part in parts]),
        np.concatenate([np.empty(0, np.uint64), *(part.sizes for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.modified_ns for part in parts)]),
        _joined_texts([part.etags for part in parts]),
    )


def _joined_texts(parts: list[Texts]) -> Texts:
    ends = np.cumsum([0, *(len(part.data) for part in parts)]).tolist()
    starts = [part.starts + end for part, end in zip(parts, ends, strict=False)]
    return Texts(
        np.concatenate([np.empty(0, np.uint8), *(part.data for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *starts]),
        np.concatenate([np.empty(0, np.int64), *(part.sizes for part in parts)]),
    )


def _obstore(root: str, options: StorageOptions) -> Any:  # noqa: ANN401 - obstore's stores
    stores: Any = import_module("obstore.store")
    retries = {"max_retries": 5, "retry_timeout": timedelta(seconds=options.deadline_s)}
    client = {"timeout": f"{options.deadline_s:g}s", "connect_timeout": "10s", "allow_http": True}
    if root == "file:///":
        return stores.LocalStore()
    if root.startswith("s3:"):
        bucket = root.removeprefix("s3://").rstrip("/")
        settings = s3_settings(bucket, options)
        return stores.S3Store(bucket, **settings, client_options=client, retry_config=retries)
    return stores.HTTPStore.from_url(root, client_options=client, retry_config=retries)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what the block raises into errors that name *what*."""
    try:
        yield
    except (ZfuseError, ImportError):
        raise
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFoundError(f"{what} does not exist") from exc
    except PermissionError as exc:
        raise AccessDeniedError(
            f"{what} may not be read; check its permissions, or the credentials given"
        ) from exc
    except IsADirectoryError as exc:
        raise InvalidInputError(f"{what} is a directory") from exc
    except Exception as exc:
        raise _store_error(what, exc) from exc


def _store_error(what: str, exc: Exception) -> ZfuseError:
    said = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    text = " ".join(said.split("Debug source")[0].split())
    if "<Code>NoSuchBucket</Code>" in text:
        return NotFoundError(f"{what} does not exist: there is no such bucket")
    denied = type(exc).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}
    if denied or "403 Forbidden" in text or "401 Unauthorized" in text:
        return AccessDeniedError(f"{what} may not be read; check the credentials given")
    return StorageError(f"{what} can not be read: {text}; try again")
