"""Makes docs/reference from the code. `python -m tests.support.reference` writes what is stale."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.reconciler.decode import triggers

HERE: Final = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Final[dict[str, Callable[[], str]]] = {"triggers.md": triggers.reference}


def stale(folder: Path = HERE) -> list[str]:
    """Name the pages that are not what the code says."""
    return [name for name, made in PAGES.items() if _read(folder / name) != made()]


def write(folder: Path = HERE) -> list[str]:
    """Write what is stale; gives the names."""
    changed = stale(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        (folder / name).write_text(PAGES[name](), "utf-8")
    return changed


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


if __name__ == "__main__":
    for written in write():
        sys.stdout.write(f"docs/reference/{written}\n")
