"""What was typed into the form of the preferences, and what language a browser asks for: without a database."""

from datetime import time
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.flags import Kind
from services.companies.model import Delivery, Language
from services.companies.preferences import Preferences
from services.console.form import Choice, Typed, UnreadableError, choose, parse, typed
from services.console.pages import preferred

KINDS = frozenset(kind.value for kind in Kind)
MIA = Preferences(
    company_id="praxis",
    company_name="Praxis",
    time_zone="Europe/Berlin",
    contact_id=uuid4(),
    name="Mia",
    email="mia@example.com",
    language=Language.DE,
    delivery=Delivery.IMMEDIATE,
    daily_at=time(7, 30),
    muted_kinds=frozenset({"SYNC_SUCCESS"}),
    told=True,
    suppressed=False,
    others_get_mail=False,
)


def chosen(known: Preferences = MIA, **fields: Any) -> Choice:
    choice = choose(replace(typed(known), **fields), known)
    assert isinstance(choice, Choice), choice
    return choice


def faults(**fields: Any) -> set[str]:
    found = choose(replace(typed(MIA), **fields), MIA)
    assert not isinstance(found, Choice)
    return set(found)


def test_a_form_that_nobody_touched_means_what_holds() -> None:
    assert chosen() == Choice(
        delivery=Delivery.IMMEDIATE, daily_at=time(7, 30), muted_kinds=MIA.muted_kinds, language=Language.DE
    )


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("08:00", time(8)),
        ("8:05", time(8, 5)),
        ("8.05", time(8, 5)),
        (" 23:59 ", time(23, 59)),
        ("07:15:00", time(7, 15)),
        ("07:15:30.500", time(7, 15)),
    ],
)
def test_a_time_is_read_as_browsers_and_people_write_it(given: str, read: time) -> None:
    assert chosen(daily_at=given).daily_at == read


@pytest.mark.parametrize("given", ["24:00", "8", "8:60", "8 Uhr", "-1:00", "\u0660\u0668:\u0660\u0660", "08:00 AM"])
def test_what_is_no_time_of_day_is_said_so_however_mails_are_wanted(given: str) -> None:
    assert faults(daily_at=given) == {"daily_at"}
    assert faults(daily_at=given, delivery="none") == {"daily_at"}


def test_no_time_is_wanted_of_who_wants_no_digest() -> None:
    assert chosen(daily_at="").daily_at == time(7, 30)
    assert faults(daily_at="", delivery="daily") == {"daily_at"}


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert faults(delivery="", daily_at="x", kinds=frozenset(), language="") == {
        "delivery",
        "daily_at",
        "kinds",
        "language",
    }


@given(known=st.frozensets(st.sampled_from([*KINDS, "NEWER"])), shown=st.frozensets(st.sampled_from(sorted(KINDS))))
def test_only_kinds_that_were_shown_are_muted_or_heard_again(known: frozenset[str], shown: frozenset[str]) -> None:
    mia = replace(MIA, muted_kinds=known, delivery=Delivery.NONE)
    marked = frozenset(sorted(shown)[::2])
    muted = chosen(mia, shown=shown, kinds=marked).muted_kinds
    assert muted - shown == known - shown
    assert muted & shown == shown - marked


def test_a_form_is_read_as_browsers_send_it() -> None:
    sent = [("delivery", "daily"), ("daily_at", "08:00"), ("kinds", "ORPHANED_LOCAL"), ("kinds", "NONE"), ("x", "ü")]
    assert parse(urlencode(sent).encode()) == Typed(
        delivery="daily", daily_at="08:00", kinds=frozenset({"ORPHANED_LOCAL"}), shown=frozenset(), language=""
    )


@pytest.mark.parametrize("body", [b"\xff", b"delivery=%ff", b"&".join([b"a=1"] * 101)])
def test_what_no_browser_sends_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse(body)


@given(st.binary(max_size=500))
def test_whatever_comes_is_read_or_refused_and_chosen_or_named(body: bytes) -> None:
    try:
        given = parse(body)
    except UnreadableError:
        return
    choice = choose(given, MIA)
    assert isinstance(choice, Choice) or set(choice) <= {"delivery", "daily_at", "kinds", "language"}
    assert len(given.daily_at) <= 20


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-US,en;q=0.9,de;q=0.8", "en"),
        ("en;q=0.1, DE-de;q=0.2", "de"),
        ("fr, de;q=0.5", "de"),
        ("de;q=0, en", "en"),
        ("den, deu", "en"),
        ("de;q=nonsense", "en"),
        ("*", "en"),
        ("," * 10_000, "en"),
    ],
)
def test_a_browser_is_answered_in_what_it_likes_best_of_what_we_speak(accept_language: str, language: str) -> None:
    assert preferred(accept_language) == language


@given(st.text(max_size=60))
def test_no_header_is_too_strange(accept_language: str) -> None:
    assert preferred(accept_language) in {"de", "en"}
