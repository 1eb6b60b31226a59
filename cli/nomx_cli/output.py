"""What a person or a script reads: tables on a terminal, stable JSON with `-j`; every command prints through this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nomx.errors import NomxError

GAP = "  "


@dataclass
class Settings:
    """What the options before the command said, one value a run of `nomx`."""

    as_json: bool = False
    socket: Path | None = None
    """The control socket; None for the default one."""


def settings() -> Settings:
    """Give the settings of the command that is running."""
    found = click.get_current_context().find_root().obj
    assert isinstance(found, Settings)
    return found


def show_json(value: Any, *, err: bool = False) -> None:
    """Print *value* as one JSON document; msgspec structs and dataclasses as objects."""
    import json

    import msgspec

    click.echo(json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2), err=err)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "") -> None:
    """Print *rows* under *columns*, numbers to the right; *empty* instead where there is no row."""
    if not rows:
        click.echo(empty, err=True)
        return
    for line in table(columns, rows):
        click.echo(line)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lay *rows* out under *columns*; a column of numbers is aligned to the right, and so is its heading."""
    cells = [[number(cell) if isinstance(cell, int | float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(heading), *(len(row[index]) for row in cells)) for index, heading in enumerate(columns)]
    numeric = [all(isinstance(row[index], int | float) for row in rows) for index in range(len(columns))]

    def laid_out(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        return GAP.join(padded).rstrip()

    return [click.style(laid_out(columns), bold=True), *(laid_out(row) for row in cells)]


def number(value: float) -> str:
    """Write a figure for people: whole numbers with separators, fractions with three significant digits."""
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def size(bytes_: int | None) -> str:
    """Write a size in binary units; `-` for none."""
    if bytes_ is None:
        return "-"
    scaled = float(bytes_)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if scaled < 1024:
            return f"{scaled:.4g} {unit}"
        scaled /= 1024
    return f"{scaled:.4g} TiB"


def show_error(error: NomxError) -> None:
    """Print *error*: to people on standard error, to scripts as JSON on standard output."""
    click.echo(f"nomx: {error}", err=True)
    if settings().as_json:
        show_json({"error": {"kind": type(error).__name__, "message": str(error), "fields": error.fields}})
