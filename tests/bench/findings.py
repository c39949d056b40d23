"""What a bench found: figures beside their bounds, and the table that people read."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from msgspec import Struct


class UnmeasuredError(Exception):
    """Something could not be measured: one line that says why."""


class Plan(Struct, frozen=True, kw_only=True):
    """How it is measured. `quick`: fewer events, shorter rounds; `profile`: the reconciler runs under cProfile.

    `against`: the root of another working tree to be compared with, by the benches that can.
    """

    quick: bool = False
    profile: bool = False
    against: Path | None = None

    @property
    def rounds(self) -> int:
        """Give how often things are measured, in turns."""
        return 2 if self.quick else 5


class Figure(Struct, frozen=True, kw_only=True):
    """One figure, a sample a round. It holds when its median does; without a bound it only informs."""

    what: str
    unit: str
    samples: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """Give the middle of the samples."""
        return median(self.samples)

    @property
    def holds(self) -> bool | None:
        """Say whether the bound holds; None where there is none."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def row(self) -> tuple[str, str, str, str]:
        """Give it as a row of the table."""
        spread = f" ({_short(min(self.samples))}–{_short(max(self.samples))})" if len(self.samples) > 1 else ""  # noqa: RUF001
        bound = f"≥ {_short(self.at_least)}" if self.at_least is not None else ""
        bound = f"≤ {_short(self.at_most)}" if self.at_most is not None else bound
        verdict = {True: "holds", False: "MISSED", None: ""}[self.holds]
        return self.what, f"{_short(self.median)}{spread} {self.unit}".rstrip(), bound, verdict

    def shown(self) -> dict[str, Any]:
        """Give it for programs to read."""
        bound = {"at_least": self.at_least, "at_most": self.at_most}
        named = {"what": self.what, "unit": self.unit, "median": self.median, "samples": self.samples}
        return named | bound | {"holds": self.holds}


class Findings(Struct, frozen=True):
    """What one bench has to say."""

    figures: list[Figure]
    notes: list[str]


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out: what, measured, bound, holds or not."""
    head = ("what", "measured: median (min–max)", "bound", "")  # noqa: RUF001
    lines = [head, *(figure.row() for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    ruled = [tuple("-" * width for width in widths)]
    padded = [lines[0], *ruled, *lines[1:]]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in padded
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """Give the value that so many percent of the values do not exceed; two values at least."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 10 else f"{value:.2f}"
