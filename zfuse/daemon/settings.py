"""What a mount can be told, and how the places that tell it are put together.

A setting has one name, that of its long flag, wherever it is written: ``--endpoint-url``,
``-o endpoint_url=``, ``ZFUSE_ENDPOINT_URL``, or ``endpoint-url`` in a TOML file. A layer maps
names to values as that place has them (text, or TOML's types); layers are merged with the
most specific first and only then interpreted, so a value means the same everywhere.
"""

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.repo.ref import Ref, RefKind, parse_time
from zfuse.repo.virtual import AllowedPrefix
from zfuse.storage.options import StorageOptions

SYSTEM_CONFIG: Final = Path("/etc/zfuse/config.toml")
MOUNT_FILES: Final = Path("/etc/zfuse/mounts.d")
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MountSettings:
    """Everything that decides how one repository is mounted.

    ``ref`` is the one version to show, None for the whole repository. ``follow_s`` is how
    often branches are looked at for new snapshots, None never. ``deadline_s`` bounds every
    request of a reader. With ``rw`` branches can be written to; ``journal`` is the directory
    in which their sessions are kept.
    """

    repository: str
    storage: StorageOptions = field(default_factory=StorageOptions)
    ref: Ref | None = None
    allow_virtual: tuple[AllowedPrefix, ...] = ()
    follow_s: float | None = None
    memory_bytes: int = 256 * MIB
    deadline_s: float = 30.0
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    log_level: str = "info"
    log_file: Path | None = None
    rw: bool = False
    journal: Path | None = None


Layer = Mapping[str, Any]
"""Settings by name as one place has them, not yet interpreted."""


# --- interpreting one value --------------------------------------------------------------------


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError("must be a text that is not empty")


_WORDS: Final = {"1": True, "true": True, "yes": True, "on": True}
_WORDS_NO: Final = dict.fromkeys(("0", "false", "no", "off"), False)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = (_WORDS | _WORDS_NO).get(str(value).lower())
    if known is None:
        raise ValueError("must be true or false")
    return known


def _seconds(value: object) -> float:
    try:
        number = float(str(value).removesuffix("s"))
    except ValueError:
        number = -1.0
    if not 0 < number < 1e9 or isinstance(value, bool):
        raise ValueError("must be a number of seconds above 0")
    return number


_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(value: object) -> int:
    """Return the bytes that ``256MiB``, ``256M``, ``1.5g`` or 268435456 mean.

    Raises:
        ValueError: *value* is no size.
    """
    text = str(value).strip().lower()
    digits = text.rstrip("bikmgt ")
    unit = text[len(digits) :].strip().removesuffix("b").removesuffix("i")
    if unit in _UNITS and not isinstance(value, bool):
        try:
            size = int(float(digits) * _UNITS[unit])
        except (ValueError, OverflowError):
            size = -1
        if size >= 0:
            return size
    raise ValueError("must be a size such as 256MiB")


def _memory(value: object) -> int:
    size = parse_size(value)
    if size < MIB:
        raise ValueError("must be at least 1MiB")
    return size


def _number(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal():
        raise ValueError("must be a number, 0 or more")
    return int(text)


def _mode(value: object) -> int:
    try:
        mode = int(_text(value), 8)  # text only: what would 22 in a TOML file mean?
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ValueError('must be an octal mode in quotes such as "022"')
    return mode


def _prefixes(value: object) -> tuple[AllowedPrefix, ...]:
    texts = value if isinstance(value, list | tuple) else str(value).split()
    return tuple(AllowedPrefix.parse(str(text)) for text in texts)


_LEVELS: Final = ("debug", "info", "warning", "error")


def _level(value: object) -> str:
    if str(value).lower() not in _LEVELS:
        raise ValueError("must be one of " + ", ".join(_LEVELS))
    return str(value).lower()


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser().absolute()


_REFS: Final = {
    "branch": RefKind.BRANCH,
    "tag": RefKind.TAG,
    "snapshot": RefKind.SNAPSHOT,
    "as-of": RefKind.TIME,
}
_STORAGE: Final[Mapping[str, Callable[[object], Any]]] = {
    "endpoint-url": _text,
    "region": _text,
    "profile": _text,
    "anonymous": _flag,
    "force-path-style": _flag,
    "requester-pays": _flag,
}
_OTHERS: Final[Mapping[str, tuple[str, Callable[[object], Any]]]] = {
    "allow-virtual": ("allow_virtual", _prefixes),
    "follow": ("follow_s", _seconds),
    "memory": ("memory_bytes", _memory),
    "deadline": ("deadline_s", _seconds),
    "allow-other": ("allow_other", _flag),
    "uid": ("uid", _number),
    "gid": ("gid", _number),
    "umask": ("umask", _mode),
    "log-level": ("log_level", _level),
    "log-file": ("log_file", _path),
    "rw": ("rw", _flag),
    "journal": ("journal", _path),
}
_PLACE: Final = ("repository", "mountpoint")
_PARSERS: Final[Mapping[str, Callable[[object], Any]]] = {
    **_STORAGE,
    **{name: parse for name, (_, parse) in _OTHERS.items()},
}
_FLAGS: Final = frozenset(name for name, parse in _PARSERS.items() if parse is _flag)
STORAGE_NAMES: Final = tuple(_STORAGE)
NAMES: Final = (*_REFS, *_STORAGE, *_OTHERS)
"""Every setting that a layer may have; mount files also have repository and mountpoint."""


# --- layers ------------------------------------------------------------------------------------


def layer_from_toml(path: Path, *, is_mount_file: bool = False) -> Layer:
    """Read a settings file; one that does not exist says nothing.

    Raises:
        InvalidInputError: it is not TOML, has a key that no setting has, or a value that
            its setting cannot have.
    """
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"cannot read {path}: {exc}") from exc
    known = (*NAMES, *_PLACE) if is_mount_file else NAMES
    layer = {_known(key, known, str(path)): value for key, value in values.items()}
    try:
        chosen_ref(layer)
        for name in layer.keys() & _PARSERS:
            _interpreted(name, _PARSERS[name], layer[name])
    except InvalidInputError as exc:
        raise InvalidInputError(f"{path}: {exc}") from None
    return layer


def mount_file(name: str, directory: Path = MOUNT_FILES) -> Layer:
    """Read the mount file called *name*.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is not sound, or lacks repository or mountpoint.
    """
    path = directory / f"{name}.toml"
    if not path.exists():
        raise NotFoundError(f"no {path}; write one with repository and mountpoint in it")
    layer = layer_from_toml(path, is_mount_file=True)
    for key in _PLACE:
        if not isinstance(layer.get(key), str):
            raise InvalidInputError(f'{path} needs a line {key} = "..."')
    return layer


_OTHER_VARIABLES: Final = ("ZFUSE_DEBUG", "ZFUSE_VENV", "ZFUSE_PYTHON", "ZFUSE_TEST_LIMIT")
_NEAR_VARIABLE: Final = 0.85


def layer_from_environment(environment: Mapping[str, str]) -> Layer:
    """Pick the settings among environment variables: ``ZFUSE_ENDPOINT_URL`` and the like.

    Raises:
        InvalidInputError: a variable is named nearly, but not quite, as a setting.
    """
    variables = {f"ZFUSE_{name.upper().replace('-', '_')}": name for name in NAMES}
    for variable in environment:
        if variable.startswith("ZFUSE_") and variable not in {*variables, *_OTHER_VARIABLES}:
            # Others may name theirs so: Kubernetes does, for a service that is called zfuse.
            near = difflib.get_close_matches(variable, variables, 1, _NEAR_VARIABLE)
            if near:
                raise InvalidInputError(
                    f"{variable}: there is no such setting; did you mean {near[0]!r}?"
                )
    return {n: environment[v] for v, n in variables.items() if environment.get(v)}


_MOUNT_WORDS: Final = (
    {"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail"}
    | {"_netdev", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "async"}
    | {"atime", "noatime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime"}
)

_WRITING: Final = {"writable": True, "ro": False}


def layer_from_mount_options(options: Iterable[str]) -> Layer:
    """Read ``-o`` options as mount(8) and fstab write them: ``allow_other,uid=1000``.

    Words that mean something to mount(8) alone are taken and ignored. As mount(8) says ``rw``
    wherever nobody says ``ro``, an fstab line asks for it with ``writable``.

    Raises:
        InvalidInputError: zfuse does not know an option, or it lacks its value.
    """
    layer: dict[str, Any] = {}
    for option in ",".join(options).split(","):
        key, equals, value = option.strip().partition("=")
        if not key or key in _MOUNT_WORDS or key.startswith(("x-", "comment")):
            continue
        if option.strip() in _WRITING:
            # Whoever says ro means it, though mount(8) puts it first.
            layer["rw"] = _WRITING[option.strip()] and layer.get("rw", True)
            continue
        name = _known(key, NAMES, "-o")
        if name == "allow-virtual" and equals:
            layer[name] = [*layer.get(name, []), value]
        elif equals or name in _FLAGS:
            layer[name] = value if equals else True
        else:
            raise InvalidInputError(f"-o {key}: it needs a value; write -o {key}=...")
    return layer


def merge(layers: Sequence[Layer]) -> Layer:
    """Put *layers* together, the most specific first.

    Which ref is meant is one question: a layer that answers it hides what the layers below
    say of any ref.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        decided = any(name in merged for name in _REFS)
        for name, value in layer.items():
            if not (decided and name in _REFS):
                merged.setdefault(name, value)
    return merged


# --- settings ----------------------------------------------------------------------------------


def storage_options(layer: Layer) -> StorageOptions:
    """Interpret the settings that say how to reach a store.

    Raises:
        InvalidInputError: a value is not of the form that its setting has.
    """
    values = {
        name.replace("-", "_"): _interpreted(name, parse, layer[name])
        for name, parse in _STORAGE.items()
        if name in layer
    }
    if "deadline" in layer:
        values["deadline_s"] = _interpreted("deadline", _seconds, layer["deadline"])
    return StorageOptions(**values)


def chosen_ref(layer: Layer) -> Ref | None:
    """Return the one ref that a layer names, None where it names none.

    Raises:
        InvalidInputError: it names more than one, or a moment that is none.
    """
    chosen = [name for name in _REFS if name in layer]
    if not chosen:
        return None
    if len(chosen) > 1:
        raise InvalidInputError(" and ".join(f"--{n}" for n in chosen) + ": give only one of them")
    kind, value = _REFS[chosen[0]], layer[chosen[0]]
    if kind is RefKind.TIME:
        value = value.isoformat() if isinstance(value, datetime) else str(value)
        parse_time(value)
    return Ref(kind, _interpreted(chosen[0], _text, value))


def mount_settings(repository: str, layer: Layer) -> MountSettings:
    """Interpret a merged layer.

    Raises:
        InvalidInputError: a value is not of the form that its setting has, or more than one
            ref is named.
    """
    values = {
        attribute: _interpreted(name, parse, layer[name])
        for name, (attribute, parse) in _OTHERS.items()
        if name in layer
    }
    return MountSettings(repository, storage_options(layer), chosen_ref(layer), **values)


def values_by_name(settings: MountSettings) -> dict[str, Any]:
    """Return every setting under its name, in values of JSON; None where nothing is chosen."""
    ref = settings.ref
    refs = {n: ref.name if ref and ref.kind is kind else None for n, kind in _REFS.items()}
    storage = {name: getattr(settings.storage, name.replace("-", "_")) for name in _STORAGE}
    others = {name: getattr(settings, attribute) for name, (attribute, _) in _OTHERS.items()}
    others["allow-virtual"] = [
        prefix.prefix + (f"={prefix.credentials}" if prefix.credentials else "")
        for prefix in settings.allow_virtual
    ]
    others["umask"] = None if settings.umask is None else f"{settings.umask:03o}"
    for name in ("journal", "log-file"):
        others[name] = None if others[name] is None else str(others[name])
    return {**refs, **storage, **others}


def _interpreted(name: str, parse: Callable[[object], Any], value: object) -> Any:  # noqa: ANN401
    try:
        return parse(value)
    except ValueError as exc:
        raise InvalidInputError(f"{name}: {value!r} {exc}") from None


def _known(key: str, names: Sequence[str], place: str) -> str:
    name = key.replace("_", "-")
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(names))}"
    raise InvalidInputError(f"{place}: unknown setting {key!r}{hint}")
