"""Whether our webhook is alive: what Cal.com says of it, what bookings came by, and what is raised and ended."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from schemas.flags import FlagType, Kind, company_record_id
from schemas.triggers import TRIGGERS
from services.verifier.answers import Webhook
from services.verifier.rounds import silence
from services.verifier.rounds.silence import Known, Looked, Sample, State, look, weigh

NOW: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
URL: Final = "https://in.example.com/webhooks/calcom/acme"
WELL: Final = Looked(State.WELL, "It is active and complete.")
MISSING: Final = Looked(State.MISSING, "Cal.com has no webhook to it.")
NO_ADDRESS: Final = Looked(State.NO_ADDRESS, "Nobody said how Cal.com reaches us.")
NOT_ASKED: Final = Looked(State.NOT_ASKED, "Cal.com may not be asked now.")


def webhook(**over: Any) -> Webhook:
    usual: dict[str, Any] = {"id": "1", "subscriber_url": URL, "active": True, "triggers": TRIGGERS}
    return Webhook(**usual | over)


def samples(*found: tuple[int, int], minutes_ago: int = 30) -> tuple[Sample, ...]:
    """Give polls five minutes apart, each with its bookings and how many of them came by no webhook."""
    begin = NOW - timedelta(minutes=minutes_ago)
    return tuple(Sample(begin + timedelta(minutes=5 * n), *one) for n, one in enumerate(found))


@pytest.mark.parametrize(
    ("there", "state"),
    [
        ([], State.MISSING),
        ([webhook(subscriber_url="https://elsewhere.example/hook")], State.MISSING),
        ([webhook(subscriber_url=URL + "2")], State.MISSING),
        ([webhook()], State.WELL),
        ([webhook(subscriber_url=URL + "/")], State.WELL),
        ([webhook(triggers=(*TRIGGERS, "OOO_CREATED"))], State.WELL),
        ([webhook(active=False)], State.INACTIVE),
        ([webhook(triggers=TRIGGERS[1:])], State.TRIGGERS),
        ([webhook(has_template=True)], State.TEMPLATE),
        ([webhook(active=False), webhook(id="2")], State.WELL),
    ],
)
def test_our_webhook_is_there_active_and_complete_or_it_is_said_what_is_wrong(
    there: list[Webhook], state: State
) -> None:
    assert look(there, URL).state is state


def test_lacking_triggers_are_named() -> None:
    assert "BOOKING_CREATED" in look([webhook(triggers=TRIGGERS[1:])], URL).detail


@pytest.mark.parametrize(
    ("public_url", "url"),
    [
        ("https://in.example.com", URL),
        ("https://in.example.com/", URL),
        ("http://10.0.0.5:8080", "http://10.0.0.5:8080/webhooks/calcom/acme"),
        ("", None),
        ("in.example.com", None),
        ("http://localhost:8080", None),
        ("http://127.0.0.1:8080", None),
        ("http://[::1]:8080", None),
        ("http://0.0.0.0:8080", None),
    ],
)
def test_an_address_of_this_machine_is_none_that_cal_com_reaches(public_url: str, url: str | None) -> None:
    assert silence.subscriber_url(public_url, "acme") == url


@pytest.mark.parametrize(
    ("recent", "many"),
    [
        ((), False),
        (samples((2, 2)), False),
        (samples((3, 3)), True),
        (samples((1, 1), (1, 1), (1, 1)), True),
        (samples((6, 3)), True),
        (samples((7, 3)), False),
        (samples((100, 40)), False),
        (samples((3, 3), minutes_ago=61), False),
    ],
)
def test_three_and_half_of_the_last_hour_are_many(recent: tuple[Sample, ...], many: object) -> None:
    assert silence.many_unseen(recent, NOW) is many


def test_a_poll_without_new_bookings_tells_nothing() -> None:
    recent = samples((3, 3), (2, 0))
    assert silence.remember(recent, Sample(NOW, 0, 0)) == recent
    assert silence.remember(recent, Sample(NOW, 1, 0))[-1] == Sample(NOW, 1, 0)
    assert silence.remember(recent, Sample(NOW + timedelta(minutes=31), 1, 1)) == (
        recent[1],
        Sample(NOW + timedelta(minutes=31), 1, 1),
    )


@pytest.mark.parametrize("state", [State.MISSING, State.INACTIVE, State.TRIGGERS, State.TEMPLATE])
def test_what_is_wrong_at_cal_com_is_raised_with_its_cause(state: State) -> None:
    made = weigh("acme", Known(), Looked(state, "This is wrong."), NOW)
    assert made.flag is not None
    assert (made.flag.type, made.flag.kind, made.flag.reason) == (
        FlagType.WEBHOOK_SILENT,
        Kind.WEBHOOK_SILENT,
        "This is wrong.",
    )
    assert (made.flag.record_id, made.flag.why.note) == (company_record_id("acme"), state.value)
    assert (made.silent_since, made.generation) == (NOW, 1)


def test_many_unseen_bookings_are_raised_although_cal_com_says_that_all_is_well() -> None:
    made = weigh("acme", Known(recent=samples((4, 3))), WELL, NOW)
    assert made.flag is not None
    assert "Of 4 new bookings of the last hour 3 came by no webhook" in made.flag.reason
    assert "secret" in made.flag.reason


def test_without_an_address_only_bookings_tell() -> None:
    assert weigh("acme", Known(), NO_ADDRESS, NOW).flag is None
    assert weigh("acme", Known(recent=samples((3, 3))), NO_ADDRESS, NOW).flag is not None


def test_where_cal_com_could_not_be_asked_nothing_is_concluded() -> None:
    assert weigh("acme", Known(), NOT_ASKED, NOW).flag is None
    silent = Known(cause=State.MISSING, state=State.MISSING, silent_since=NOW, generation=1)
    made = weigh("acme", silent, NOT_ASKED, NOW)
    assert (made.flag, made.silent_since) == (None, NOW)


def test_what_is_open_is_not_raised_again_and_ends_under_the_id_that_it_had() -> None:
    raised = weigh("acme", Known(), MISSING, NOW).flag
    assert raised is not None
    silent = Known(cause=State.MISSING, state=State.MISSING, silent_since=NOW, generation=1)
    again = weigh("acme", silent, Looked(State.INACTIVE, "It is off."), NOW)
    assert (again.flag, again.silent_since, again.generation) == (None, NOW, 1)
    over = weigh("acme", silent, WELL, NOW)
    assert over.flag is not None
    assert (over.flag.type, over.flag.resolves, over.silent_since) == (FlagType.RESOLVED, raised.id, None)
    assert over.flag.id != raised.id
    once_more = weigh("acme", Known(generation=1), MISSING, NOW).flag
    assert once_more is not None
    assert (once_more.generation, once_more.id != raised.id) == (2, True)


def test_what_came_by_no_webhook_while_it_was_off_does_not_keep_it_silent_once_it_is_mended() -> None:
    silent = Known(cause=State.INACTIVE, state=State.INACTIVE, silent_since=NOW, generation=1, recent=samples((9, 9)))
    made = weigh("acme", silent, WELL, NOW)
    assert made.flag is not None
    assert (made.flag.type, made.looked.state) == (FlagType.RESOLVED, State.WELL)


def test_a_silence_that_bookings_told_of_ends_when_some_come_by_a_webhook() -> None:
    silent = Known(cause=State.UNSEEN, state=State.WELL, silent_since=NOW, generation=1)
    assert weigh("acme", silent, WELL, NOW).flag is None
    heard = Known(cause=State.UNSEEN, silent_since=NOW, generation=1, recent=samples((4, 1)))
    for looked in (WELL, NO_ADDRESS):
        ended = weigh("acme", heard, looked, NOW).flag
        assert ended is not None
        assert ended.type is FlagType.RESOLVED


def test_a_webhook_of_a_team_is_not_on_the_keys_own_list_and_is_none_that_is_missing() -> None:
    for known in (Known(webhook_at=NOW - timedelta(hours=20)), Known(recent=samples((4, 1)))):
        made = weigh("acme", known, MISSING, NOW)
        assert (made.flag, made.looked.state) == (None, State.ELSEWHERE)
    assert weigh("acme", Known(recent=samples((4, 3)), webhook_at=NOW), MISSING, NOW).flag is not None


def test_a_webhook_that_was_on_the_list_and_is_no_more_is_missing_whatever_came_before() -> None:
    lately = NOW - timedelta(minutes=1)
    made = weigh("acme", Known(state=State.WELL, webhook_at=lately), MISSING, NOW)
    assert made.flag is not None
    silent = Known(
        state=State.MISSING,
        cause=State.MISSING,
        silent_since=NOW - timedelta(minutes=5),
        generation=1,
        webhook_at=lately,
    )
    assert weigh("acme", silent, MISSING, NOW).flag is None
    later = NOW + timedelta(hours=1)
    comes = weigh(
        "acme",
        Known(state=State.MISSING, cause=State.MISSING, silent_since=NOW, generation=1, webhook_at=later),
        MISSING,
        later,
    )
    assert comes.flag is not None
    assert (comes.flag.type, comes.looked.state) == (FlagType.RESOLVED, State.ELSEWHERE)
