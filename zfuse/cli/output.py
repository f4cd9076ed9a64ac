"""How results are printed: aligned text for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import click

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON (one object, or one a line)."
)


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON object on a line of its own."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* with their columns aligned; the last column is as long as it is."""
    rows = [tuple(row) for row in rows]
    if not rows:
        return
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    for row in rows:
        padded = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*padded, row[-1]]).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values below each other; what is None or empty is left out."""
    shown = {k: v for k, v in fields.items() if v not in (None, "", [], {})}
    print_table([(f"{name}:", str(value)) for name, value in shown.items()])


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


def styled(text: str, **style: bool | str) -> str:
    """Return *text* with colour where a terminal shows it and NO_COLOR does not forbid it."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, **style)  # type: ignore[arg-type]  # click names every style
