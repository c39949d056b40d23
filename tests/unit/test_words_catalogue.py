"""Whatever is said to people is said in German, too: nothing is missing, nothing doubtful, nothing left over."""

import re
from typing import Final

import pytest
from babel.messages.catalog import Catalog, Message

from services.words import tongue
from tests.support import catalogue

GERMAN: Final = catalogue.read("de")
MARKED: Final = catalogue.marked()
_PLACEHOLDER: Final = re.compile(r"%(?:%|\((\w+)\)(.)|.?)")


def texts(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (str(value or ""),)


def entries(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def places(text: str) -> list[str]:
    """Give what a text leaves open, and what would make formatting fail."""
    return sorted(found.group(0) for found in _PLACEHOLDER.finditer(text))


def test_there_is_something_to_translate_in_code_and_in_templates() -> None:
    said = {message if isinstance(message, str) else message[0] for message in MARKED}
    assert {"Details differ", "What differs", "%(number)s hour", "Reminder: %(subject)s", "confirmed"} <= said


@pytest.mark.parametrize("message", MARKED, ids=lambda message: texts(message)[0][:60])
def test_every_message_has_a_german_translation(message: str | tuple[str, ...]) -> None:
    entry = GERMAN.get(texts(message)[0])
    assert entry is not None, f"{MARKED[message]}: `make catalogue` adds it"
    assert texts(entry.id) == texts(message)
    assert len(texts(entry.string)) == len(texts(message))
    assert all(texts(entry.string)), f"{MARKED[message]}: has no German translation"


def test_no_translation_is_doubtful() -> None:
    assert not [message.id for message in entries(GERMAN) if message.fuzzy]


def test_no_translation_is_left_over() -> None:
    assert not {texts(message.id)[0] for message in entries(GERMAN)} - {texts(message)[0] for message in MARKED}
    assert not GERMAN.obsolete


@pytest.mark.parametrize("message", entries(GERMAN), ids=lambda message: texts(message.id)[0][:60])
def test_a_translation_leaves_open_what_its_message_does(message: Message) -> None:
    for original, said in zip(texts(message.id), texts(message.string), strict=True):
        assert places(said) == places(original)
        assert not [place for place in places(said) if not re.fullmatch(r"%\(\w+\)s|%%", place)]


def test_no_message_stands_in_the_catalogue_twice() -> None:
    said = re.findall(r"^msgid (.*(?:\n\".*)*)", catalogue.path("de").read_text("utf-8"), re.MULTILINE)
    assert sorted(set(said)) == sorted(said)


def test_the_catalogue_is_written_as_the_tool_writes_it() -> None:
    assert catalogue.path("de").read_bytes() == catalogue.updated("de"), "run `make catalogue`"


def test_each_language_that_is_spoken_has_its_catalogue() -> None:
    assert all(catalogue.path(language).exists() for language in tongue.LANGUAGES[1:])


def test_a_language_is_read_once_and_one_that_is_not_spoken_is_english() -> None:
    assert tongue.of("de") is tongue.of("de")
    assert tongue.of("tlh") is tongue.of("en")
    assert tongue.of("../../etc").language == "en"
    assert tongue.of("de").gettext("Details differ") == "Angaben weichen ab"
    assert tongue.of("en").gettext("Details differ") == "Details differ"


def test_nothing_said_is_nothing_and_never_the_catalogues_head() -> None:
    assert tongue.of("de").gettext("") == ""


@pytest.mark.parametrize(
    ("language", "number", "said"),
    [
        ("en", 1, "1 appointment needs a look"),
        ("en", 12345, "12,345 appointments need a look"),
        ("de", 1, "1 Termin ist zu prüfen"),
        ("de", 0, "0 Termine sind zu prüfen"),
        ("de", 12345, "12.345 Termine sind zu prüfen"),
    ],
)
def test_numbers_are_said_as_the_language_says_them(language: str, number: int, said: str) -> None:
    one, many = "%(number)s appointment needs a look", "%(number)s appointments need a look"
    assert tongue.of(language).ngettext(one, many, number) == said


def test_a_per_cent_has_a_point_or_a_comma() -> None:
    assert (tongue.of("en").number(93.44), tongue.of("de").number(93.44)) == ("93.4", "93,4")
