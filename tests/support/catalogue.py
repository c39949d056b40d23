"""The catalogue of translations: what is marked in code and templates. `make catalogue` brings the German up to date.

What is new comes without a translation, and a test says so; what is used no longer goes.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from services.words.tongue import DOMAIN, LANGUAGES

ROOT: Final = Path(__file__).parents[2]
#: Where things are said to people.
ROOMS: Final = ("services/words", "services/notifier", "services/console")
_METHODS: Final = [("**.py", "python"), ("**/templates/**.html", "jinja2"), ("**/templates/**.txt", "jinja2")]
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    f"**/templates/**.{kind}": {"trimmed": "true", "silent": "false", "newstyle_gettext": "true"}
    for kind in ("html", "txt")
}
_KEYWORDS: Final[dict[str, Any]] = {
    "mark": None,
    "gettext": None,
    "say": None,  # what `tongue.gettext` is called where much is said
    "_": None,
    "mark_n": (1, 2),
    "ngettext": (1, 2),
}
_WIDTH: Final = 110


def marked() -> dict[str | tuple[str, ...], str]:
    """Give all messages that are marked, each with a place where it is said."""
    return dict(_marked())


def _marked() -> Iterator[tuple[str | tuple[str, ...], str]]:
    for room in ROOMS:
        found = extract_from_dir(ROOT / room, _METHODS, _OPTIONS, _KEYWORDS) if (ROOT / room).is_dir() else ()
        for file, line, message, _, _ in found:
            yield message, f"{room}/{file}:{line}"


def path(language: str) -> Path:
    """Give the catalogue of a language."""
    return ROOT / "services/words/locale" / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def read(language: str) -> Catalog:
    """Read the catalogue of a language; an empty one where there is none yet."""
    if not path(language).exists():
        return Catalog(locale=language, domain=DOMAIN, project=DOMAIN, fuzzy=False)
    with path(language).open("rb") as file:
        return read_po(file, locale=language, domain=DOMAIN)


def updated(language: str) -> bytes:
    """Give the catalogue as it should be written: what is marked, sorted, with the translations that there are."""
    known, catalog = read(language), Catalog(locale=language, domain=DOMAIN, project=DOMAIN, fuzzy=False)
    for message in marked():
        entry = known.get(message if isinstance(message, str) else message[0])
        catalog.add(message, string=entry.string if entry and not entry.fuzzy else None)
    written = io.BytesIO()
    write_po(written, catalog, width=_WIDTH, no_location=True, omit_header=True, sort_output=True)
    return _head(catalog) + written.getvalue()


def _head(catalog: Catalog) -> bytes:
    """Write the entry that says how to read the others; without dates, which would change for nothing."""
    said = (
        f"Language: {catalog.locale}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        f"Plural-Forms: {catalog.plural_forms}",
    )
    lines = "".join(f'"{line}\\n"\n' for line in said)
    return f'msgid ""\nmsgstr ""\n{lines}\n'.encode()


if __name__ == "__main__":
    for each in LANGUAGES[1:]:
        path(each).parent.mkdir(parents=True, exist_ok=True)
        path(each).write_bytes(updated(each))
