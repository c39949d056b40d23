"""How commands print: JSON a line, tables for people."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def line(value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Print one value as one line of JSON."""
    import msgspec  # noqa: PLC0415

    click.echo(msgspec.json.encode(value))


def console() -> "Console":
    """Give what prints for people: as wide as the terminal, 120 where there is none."""
    from rich.console import Console  # noqa: PLC0415

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, emoji=False, markup=False)


def table(title: str, *columns: str) -> "Table":
    """Begin a table; a column whose name begins with `>` holds numbers."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in columns:
        made.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return made


def moment(at: datetime | str | None) -> str:
    """Give a moment (a string: ISO 8601 with an offset) for people, UTC."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
