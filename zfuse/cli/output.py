"""How results are printed: aligned text for people, JSON for programs."""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import click

_NO_UTF8: Final = re.compile("[\ud800-\udfff]")
_CONTROLS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON (one object, or one a line)."
)


class Styled(str):
    """Text that is ready for the terminal: what may not reach it is replaced already."""

    __slots__ = ()


def plain(text: str) -> str:
    r"""Return *text* with what would steer a terminal, or break a line, as ``\x1b``, ``\n``.

    Names and messages are chosen by whoever writes to a repository.
    """
    return "".join(_escaped(c) if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in _CONTROLS or character in _DIRECTIONS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON object on a line of its own."""
    print(json_text(value))


def json_text(value: object) -> str:
    r"""Return a value as JSON, with bytes of names that are no UTF-8 as ``\udcXX``."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _NO_UTF8.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* with their columns aligned; the last column is as long as it is."""
    shown = [[cell if isinstance(cell, Styled) else plain(cell) for cell in row] for row in rows]
    if not shown:
        return
    widths = [max(_width(row[n]) for row in shown) for n in range(len(shown[0]) - 1)]
    for row in shown:
        gaps = [" " * (w - _width(cell)) for cell, w in zip(row, widths, strict=False)]
        padded = [cell + gap for cell, gap in zip(row, gaps, strict=False)]
        print("  ".join([*padded, row[-1]]).rstrip())


def _width(cell: str) -> int:
    return len(click.unstyle(cell))


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values below each other; what is None or empty is left out."""
    shown = {k: v for k, v in fields.items() if v not in (None, "", [], {})}
    print_table([(f"{name}:", _readable(value)) for name, value in shown.items()])


def _readable(value: object) -> str:
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def count(number: int, noun: str) -> str:
    """Return ``1 chunk``, ``2 chunks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def utc(microseconds: int) -> str:
    """Return a moment in microseconds since 1970 as RFC 3339."""
    whole, rest = divmod(microseconds, 1_000_000)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:06d}Z" if rest else f"{text}Z"


def human_size(size: int) -> str:
    """Return a number of bytes as a person writes it: ``1.5 MiB``."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def styled(text: str, **style: bool | str) -> Styled:
    """Return *text* with colour where a terminal shows it and NO_COLOR does not forbid it."""
    text = plain(text)
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return Styled(text)
    return Styled(click.style(text, **style))  # type: ignore[arg-type]  # click names every style
