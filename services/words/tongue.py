"""A person's language: gettext's catalogues, read as they are written.

English is the language of the code: a message is its own name. German stands in `locale/de/LC_MESSAGES/reconcal.po`;
`make catalogue` brings that file up to date.
"""

from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib import resources
from io import BytesIO
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

LANGUAGES: Final = ("en", "de")
DOMAIN: Final = "reconcal"


def mark(message: str) -> str:
    """Mark a message that is said elsewhere, so that the catalogue has it."""
    return message


def mark_n(one: str, many: str) -> tuple[str, str]:
    """Mark a message of a number, that is said elsewhere: `%(number)s` is the number."""
    return one, many


class Tongue:
    """One language. What a message leaves open is named in it: `%(name)s`."""

    def __init__(self, language: str, translations: NullTranslations) -> None:
        """Wrap the translations, which nobody changes from here on."""
        self._language, self._translations = language, translations

    @property
    def language(self) -> str:
        """Give its code: "en" or "de"."""
        return self._language

    @property
    def translations(self) -> NullTranslations:
        """Give what Jinja2 asks."""
        return self._translations

    def gettext(self, message: str, /, **open_fields: object) -> str:
        """Say a message. The empty one is empty: gettext itself would give the catalogue's head."""
        said = self._translations.gettext(message) if message else ""
        return said % open_fields if open_fields else said

    def ngettext(self, one: str, many: str, number: int, /, **open_fields: object) -> str:
        """Say a message of a number."""
        said = self._translations.ngettext(one, many, number)
        return said % {"number": self.number(number), **open_fields}

    def number(self, value: float) -> str:
        """Write a number with at most one decimal: 12,345.6 or 12.345,6."""
        return format_decimal(value, format="#,##0.#", locale=self._language)


def of(language: str) -> Tongue:
    """Give a language by its code; what we do not speak is English."""
    return _tongue(language if language in LANGUAGES else LANGUAGES[0])


@cache
def _tongue(language: str) -> Tongue:
    if language == LANGUAGES[0]:
        return Tongue(language, NullTranslations())
    return Tongue(language, _read(language))


def _read(language: str) -> GNUTranslations:
    """Read a catalogue. Fuzzy entries count as none."""
    po = resources.files("services.words").joinpath("locale", language, "LC_MESSAGES", f"{DOMAIN}.po")
    compiled = BytesIO()
    with po.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language, domain=DOMAIN))
    compiled.seek(0)
    return GNUTranslations(compiled)
