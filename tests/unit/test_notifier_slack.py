"""A letter as Slack gets it: what a person reads, and what must never get through."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.flags import RECORD_KINDS, AppointmentFacts, Kind
from services.notifier import samples
from services.notifier.hooks.slack import BLOCKS_MOST, HEADER_MOST, TEXT_MOST, body, escaped
from services.notifier.letter import ROWS, Company, Letter
from services.words import tongue

CONSOLE = "https://console.example.com/"
#: What Slack reads as a link or a mention.
ANGLES = re.compile(r"<([^<>|]*)(?:\|([^<>|]*))?>")


def message(letter: Letter, company: Company = samples.COMPANY, language: str = "en") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body(letter, company, language=language, console_url=CONSOLE))
    return found


def texts(told: dict[str, Any]) -> list[str]:
    """Give all texts in which Slack looks for markup."""
    blocks = [block for block in told["blocks"] if block["type"] != "divider"]
    found = [text for block in blocks for text in ([block["text"]] if "text" in block else block["elements"])]
    assert all(text["verbatim"] for text in found if text["type"] == "mrkdwn")
    return [text["text"] for text in found if text["type"] == "mrkdwn"]


def check(told: dict[str, Any]) -> None:
    """Hold Slack's limits, and that nothing in angles is but a link to our pages."""
    assert set(told) == {"text", "blocks", "unfurl_links", "unfurl_media"}
    assert len(told["blocks"]) <= BLOCKS_MOST
    header = told["blocks"][0]["text"]
    assert header["type"] == "plain_text"
    assert 0 < len(header["text"]) <= HEADER_MOST
    assert not {"<", ">"} & set(header["text"])
    assert not {"<", ">"} & set(told["text"])
    for text in texts(told):
        assert 0 < len(text) <= TEXT_MOST
        links = ANGLES.findall(text)
        assert all(url.startswith(CONSOLE.rstrip("/")) and label for url, label in links)
        assert not {"<", ">"} & set(ANGLES.sub("", text))


@pytest.mark.parametrize("language", tongue.LANGUAGES)
@pytest.mark.parametrize("name", samples.NAMES)
def test_every_letter_keeps_slacks_limits(name: str, language: str) -> None:
    check(message(samples.letter(name), language=language))


def test_one_issue_is_told_with_what_to_do_and_a_link() -> None:
    told = message(samples.letter("sample"))
    assert told["blocks"][0]["text"]["text"] == "Test: Cal.com Sync Issue: Appointment #4711"
    whole = "\n".join(texts(told))
    assert "<https://console.example.com/admin/appointments/4711/sync-review|Review page>" in whole
    assert "Customer: Jörg Beispiel" in whole
    assert "Time: 01.12.2026 11:00 (Europe/Berlin, CET)" in whole
    assert "Book it at Cal.com or cancel it" in whole
    assert texts(told)[-1] == "Praxis am See"


def test_many_are_counted_and_the_first_are_listed_with_a_link_each() -> None:
    told = message(samples.letter("digest"))
    whole = "\n".join(texts(told))
    rows = [line for line in whole.splitlines() if line.startswith("• <")]
    assert len(rows) == ROWS
    assert rows[0].startswith("• <https://console.example.com/admin/appointments/")
    assert "and 5 more" in whole
    assert "Times are those of Europe/Berlin." in whole


def test_a_silent_webhook_is_told_first_with_the_commands_that_mend_it() -> None:
    first = texts(message(samples.letter("webhook_silent")))[0]
    assert first.startswith("*Please look: Cal.com webhook silent*")
    assert "`reconcal companies webhook --company praxis check`" in first


def test_german_channels_are_told_in_german() -> None:
    whole = "\n".join(texts(message(samples.letter("digest"), language="de")))
    assert "Alle Zeiten gelten für Europe/Berlin." in whole
    assert "und 5 weitere" in whole


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("<!channel>", "&lt;!channel&gt;"),
        ("<@U123|boss>", "&lt;@U123|boss&gt;"),
        ("<https://evil.example|Click>", "&lt;https://evil.example|Click&gt;"),
        ("Müller & Söhne", "Müller &amp; Söhne"),
        ("&lt;!here&gt;", "&amp;lt;!here&amp;gt;"),
        ("*bold* ```code", "∗bold∗ ˋˋˋcode"),  # noqa: RUF001 - what stands for markup
    ],
)
def test_a_name_is_shown_as_it_is_and_calls_nobody(given_name: str, shown: str) -> None:
    told = message(named(given_name), Company(company_id="x", name=given_name, time_zone="Europe/Berlin"))
    check(told)
    assert f"Customer: {shown}" in "\n".join(texts(told))
    assert texts(told)[-1] == shown


def test_what_is_too_long_is_cut_between_characters_not_within_an_escape() -> None:
    assert escaped("&" * 1000, 23) == "&amp;" * 4 + "…"
    assert escaped("ab", 3) == "ab"


def named(name: str, appointment_id: str = "4711") -> Letter:
    letter = samples.letter("orphaned_local")
    flag = letter.news[0]
    facts = AppointmentFacts(
        appointment_id=appointment_id, status=name, starts_at=samples.AT + timedelta(days=1), customer_name=name
    )
    return replace(letter, news=(replace(flag, appointment=facts, booking=None, reason=name),))


def of_many(name: str, count: int) -> Letter:
    flags = [replace(samples.flag(kind), reason=name) for kind in RECORD_KINDS for _ in range(count)][:ROWS]
    facts = AppointmentFacts(appointment_id=name, status=name, starts_at=samples.AT, customer_name=name)
    rows = tuple(replace(flag, appointment=facts, booking=None, resolved_by=name) for flag in flags)
    notices = tuple(
        replace(samples.flag(kind), reason=name, company_id=name) for kind in Kind if kind not in RECORD_KINDS
    )
    return replace(
        samples.letter("mixed"),
        notices=notices,
        notices_over=notices,
        news=rows,
        news_counts=dict.fromkeys(RECORD_KINDS, 10**6),
        ended=rows,
        ended_total=10**6,
        thread_subject=name,
    )


anything = st.text(max_size=400) | st.sampled_from(["<!channel>", "<@U1>", "&" * 400, "<" * 400, "\U0001f600" * 400])


@given(anything, anything)
def test_whatever_is_written_outside_calls_nobody_and_links_nowhere_else(name: str, appointment_id: str) -> None:
    check(message(named(name, appointment_id), Company(company_id="x", name=name, time_zone=name)))


@given(anything)
def test_the_longest_letter_keeps_slacks_limits(name: str) -> None:
    check(message(of_many(name, 4), Company(company_id="x", name=name, time_zone="Europe/Berlin"), "de"))
