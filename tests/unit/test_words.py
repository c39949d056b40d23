"""A flag in words: every kind, every verdict, both languages; moments on the company's clock; links that survive."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from msgspec.structs import replace

from schemas.flags import Flag, FlagType, Inconsistency, Kind, Measured, Why
from schemas.verification import Verdict
from services.notifier import samples
from services.verifier.answers import Reason
from services.verifier.gate import incidents
from services.verifier.rounds import polls
from services.verifier.rounds.silence import State
from services.words import kinds, story, tongue
from services.words.moments import in_short, in_zone
from services.words.plain import plain
from services.words.story import Voice, line, queue_url, review_url, tell

CONSOLE: Final = "https://console.example.com/"
STARTS_AT: Final = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
AT: Final = samples.AT
EN: Final = Voice(tongue=tongue.of("en"), time_zone="Europe/Berlin", console_url=CONSOLE)
DE: Final = Voice(tongue=tongue.of("de"), time_zone="Europe/Berlin", console_url=CONSOLE)
LOCAL: Final = samples.flag(Kind.ORPHANED_LOCAL)
CALCOM: Final = samples.flag(Kind.ORPHANED_CALCOM)
RECORDS: Final = [kind for kind in Kind if kinds.about_records(kind)]
COMPANYS: Final = [kind for kind in Kind if not kinds.about_records(kind)]


def ended(flag: Flag, by: str | None = "auto") -> Flag:
    return replace(flag, type=FlagType.RESOLVED, resolves=flag.id, resolved_by=by)


def test_every_kind_has_its_words() -> None:
    assert kinds.WORDS.keys() == set(Kind)
    assert kinds.COUNTS.keys() == kinds.STATUSES.keys() == set(RECORDS)


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_is_told_in_sentences_of_its_own_in_both_languages(kind: Kind) -> None:
    told = [tell(samples.flag(kind), voice) for voice in (EN, DE)]
    for one in told:
        assert one.happened.endswith(".")
        assert one.next_step.endswith(".")
        assert not {"%(", "%s", "{", "}"} & set(one.happened + one.next_step)
    english, german = told
    assert english.name != german.name
    assert english.happened != german.happened
    assert english.next_step != german.next_step


@pytest.mark.parametrize("voice", [EN, DE], ids=["en", "de"])
@pytest.mark.parametrize("kind", COMPANYS)
def test_trouble_of_the_company_that_is_over_says_so(kind: Kind, voice: Voice) -> None:
    told = tell(ended(samples.flag(kind)), voice)
    assert told.resolved
    assert told.happened == voice.tongue.gettext(kinds.WORDS[kind].over or "")
    assert told.grounds is None
    assert not told.commands


@pytest.mark.parametrize("verdict", kinds.SAID)
@pytest.mark.parametrize("kind", RECORDS)
def test_whatever_cal_com_said_is_one_sentence(kind: Kind, verdict: str) -> None:
    said = tell(replace(samples.flag(kind), verdict=verdict), EN).grounds
    assert said is not None
    assert said.startswith("Cal.com ")
    assert said.endswith(".")
    assert not set("{}%") & set(said)


def test_every_verdict_that_a_flag_can_have_has_a_sentence() -> None:
    assert {*kinds.SAID, "absent_once", "unauthorised"} == {*Verdict, "not_verified"}


def test_every_reason_of_the_verifier_has_plain_words() -> None:
    assert kinds.CAUSES.keys() >= {reason.value for reason in Reason}


def test_every_trouble_with_cal_com_has_plain_words() -> None:
    wrong = {state.value for state in State} - {"well", "elsewhere", "no_address", "no_key", "not_asked"}
    known = {*incidents.Kind, polls.FILTER_IGNORED, polls.LIST_INCOMPLETE}
    assert kinds.TROUBLES.keys() >= wrong | known


@pytest.mark.parametrize("verdict", ["", "a word of tomorrow", "%(at)s", "{at}"])
def test_a_verdict_that_is_not_known_is_passed_over(verdict: str) -> None:
    assert tell(replace(LOCAL, verdict=verdict), EN).grounds is None


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("timeout", "it did not answer in time"),
        ("not_calcom", "what answered was not Cal.com"),
        ("a word of tomorrow %(at)s", "it gave no answer that counts"),
        (None, "it gave no answer that counts"),
    ],
)
def test_why_cal_com_could_not_be_asked_is_said_in_plain_words(answer: str | None, cause: str) -> None:
    flag = replace(LOCAL, verdict="unknown", why=Why(observed_at=AT, answer=answer))
    said = f"Cal.com could not be asked, the last time on 30.11.2026 08:30: {cause}."
    assert tell(flag, EN).grounds == said


def test_a_booking_that_stands_alone_is_not_compared_with_an_appointment_that_there_is_not() -> None:
    said = tell(CALCOM, EN).grounds
    assert said == "Cal.com was asked on 30.11.2026 08:26 and has the booking."


def test_a_booking_that_cal_com_has_no_longer_is_said_to_be_gone() -> None:
    assert "is no longer at Cal.com" in tell(replace(LOCAL, booking=CALCOM.booking), EN).happened


def test_an_appointment_that_was_deleted_is_said_to_be_deleted() -> None:
    assert LOCAL.appointment is not None
    gone = replace(CALCOM, appointment=replace(LOCAL.appointment, status="deleted"))
    assert "was deleted in your booking app" in tell(gone, EN).happened


def test_an_appointment_that_has_begun_is_said_to_have_begun_but_not_when_it_is_resolved() -> None:
    late = STARTS_AT + timedelta(hours=3)
    assert dict(tell(LOCAL, EN, at=late).facts)["Time"] == "01.12.2026 11:00 (Europe/Berlin, CET), has begun already"
    assert dict(tell(LOCAL, DE, at=late).facts)["Zeit"].endswith("(Europe/Berlin, MEZ), hat schon begonnen")
    assert line(LOCAL, EN, at=late).begun
    assert not line(LOCAL, EN, at=AT).begun
    assert not line(ended(LOCAL), EN, at=late).begun
    assert "begun" not in dict(tell(ended(LOCAL), EN, at=late).facts)["Time"]


@pytest.mark.parametrize(
    ("by", "at_length", "briefly"),
    [
        ("auto", "This has resolved itself: newer reports have come in.", "resolved itself"),
        ("Mia Muster", "Mia Muster has marked this as resolved.", "resolved by Mia Muster"),
        ("%(name)s\r\nBcc: x", "%(name)s Bcc: x has marked this as resolved.", None),
        (None, "This is resolved.", "resolved"),
        ("", "? has marked this as resolved.", "resolved by ?"),
    ],
)
def test_who_or_what_has_resolved_it_is_said(by: str | None, at_length: str, briefly: str | None) -> None:
    assert tell(ended(LOCAL, by), EN).happened == at_length
    assert briefly is None or line(ended(LOCAL, by), EN).issue == briefly


def test_what_differs_is_named_in_a_list_and_told_with_both_values_in_words() -> None:
    flag = samples.flag(Kind.DATA_MISMATCH)
    assert line(flag, DE).issue == "Angaben weichen ab: Beginn, Status"
    start, status = tell(flag, DE).differences
    assert (start.local, start.calcom) == ("01.12.2026 11:00", "01.12.2026 12:30")
    assert (status.field, status.local, status.calcom) == ("Status", "bestätigt", "abgesagt")


def test_a_value_that_is_none_of_the_known_words_is_shown_as_it_is() -> None:
    odd = (
        Inconsistency("status", "vip", None),
        Inconsistency("starts_at", "soon", ""),
        Inconsistency("room", "1", "2"),
    )
    found = tell(replace(LOCAL, inconsistencies=odd), EN).differences
    assert [(one.field, one.local, one.calcom) for one in found] == [
        ("Status", "vip", "not given"),
        ("Start", "soon", ""),
        ("room", "1", "2"),
    ]


@pytest.mark.parametrize(
    ("kind", "measured", "said"),
    [
        (
            Kind.ORPHANS_A_DAY,
            Measured(value=7, limit=5, window_seconds=86_400.0),
            "found within 24 hours; the limit is 5.",
        ),
        (
            Kind.FAILED_CHECKS_AN_HOUR,
            Measured(value=1200, limit=10, window_seconds=3_600.0),
            "1,200 checks at Cal.com have failed within 1 hour;",
        ),
        (Kind.FAILED_CHECKS_AN_HOUR, Measured(value=12, limit=10, window_seconds=5_400.0), "within 90 minutes;"),
        (
            Kind.WAITING_FOR_REVIEW,
            Measured(value=23, limit=20),
            "23 cases wait for somebody to look at them; the limit is 20.",
        ),
        (
            Kind.SYNC_SUCCESS,
            Measured(value=93.44, limit=95, window_seconds=86_400.0),
            "only 93.4% are in sync; at least 95% should be.",
        ),
        (Kind.SYNC_SUCCESS, None, "A limit that is set for your company was crossed."),
    ],
)
def test_a_threshold_is_told_with_its_figures(kind: Kind, measured: Measured | None, said: str) -> None:
    assert said in tell(replace(samples.flag(kind), measured=measured), EN).happened


def test_the_cause_of_trouble_is_the_flags_own_reason_and_in_german_a_sentence_before_it() -> None:
    flag = samples.flag(Kind.WEBHOOK_SILENT)
    assert tell(flag, EN).grounds == "Our webhook at Cal.com is switched off."
    assert tell(flag, DE).grounds == (
        "Der Webhook bei Cal.com ist abgeschaltet. "
        "Für die Technik (auf Englisch): Our webhook at Cal.com is switched off."
    )
    assert tell(replace(flag, reason=""), EN).grounds == "The webhook at Cal.com is switched off."
    assert tell(replace(flag, reason="", why=Why()), DE).grounds is None


@pytest.mark.parametrize("voice", [EN, DE], ids=["en", "de"])
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("flag_type", [FlagType.ORPHANED_LOCAL, FlagType.THRESHOLD, FlagType.RESOLVED])
def test_a_flag_of_which_nothing_more_is_known_is_told_all_the_same(
    flag_type: FlagType, kind: Kind, voice: Voice
) -> None:
    bare = replace(samples.flag(kind), type=flag_type, appointment=None, booking=None, reason="", measured=None)
    naive = replace(bare, decided_at=bare.decided_at.replace(tzinfo=None))
    assert tell(naive, voice) == tell(bare, voice)
    assert tell(bare, voice).happened
    assert line(bare, voice, at=AT).customer == voice.tongue.gettext("not known")


@pytest.mark.parametrize(
    ("moment", "time_zone", "shown"),
    [
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), "Europe/Berlin", "29.03.2026 01:59 (Europe/Berlin, CET)"),
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "Europe/Berlin", "29.03.2026 03:00 (Europe/Berlin, CEST)"),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Europe/Berlin", "25.10.2026 02:30 (Europe/Berlin, CEST)"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Europe/Berlin", "25.10.2026 02:30 (Europe/Berlin, CET)"),
        (STARTS_AT, "Asia/Kolkata", "01.12.2026 14:30 (Asia/Kolkata, IST)"),
        (STARTS_AT.replace(tzinfo=None), "Europe/Berlin", "01.12.2026 10:00 (Europe/Berlin, CET)"),
        (STARTS_AT, "Nowhere/Land", "01.12.2026 09:00 (UTC)"),
        (STARTS_AT, "../etc/passwd", "01.12.2026 09:00 (UTC)"),
        (STARTS_AT, "", "01.12.2026 09:00 (UTC)"),
        (datetime.max.replace(tzinfo=UTC), "Europe/Berlin", "31.12.9999 23:59 (UTC)"),
        (datetime.min.replace(tzinfo=UTC), "America/New_York", "01.01.0001 00:00 (UTC)"),
    ],
)
def test_a_time_is_shown_on_the_companys_clock(moment: datetime, time_zone: str, shown: str) -> None:
    assert in_zone(moment, time_zone, EN.tongue) == shown
    assert in_short(moment, time_zone, EN.tongue).startswith(shown[:16])


def test_in_german_the_zone_has_its_german_name() -> None:
    assert in_zone(STARTS_AT, "Europe/Berlin", DE.tongue) == "01.12.2026 10:00 (Europe/Berlin, MEZ)"


def test_in_a_list_the_hour_that_comes_twice_says_which_one_it_is() -> None:
    twice = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    assert [in_short(moment, "Europe/Berlin", DE.tongue)[11:] for moment in twice] == ["02:30 MESZ", "02:30 MEZ"]
    assert in_short(datetime(2026, 10, 25, 2, 0, tzinfo=UTC), "Europe/Berlin", EN.tongue) == "25.10.2026 03:00"
    assert in_short(datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "Europe/Berlin", EN.tongue) == "29.03.2026 03:00"


@pytest.mark.parametrize(
    ("appointment_id", "path"),
    [
        ("4711", "/admin/appointments/4711/sync-review"),
        ("a/b?c#d", "/admin/appointments/a%2Fb%3Fc%23d/sync-review"),
        ("Ä 1", "/admin/appointments/%C3%84%201/sync-review"),
        ("\ud800", "/admin/appointments/%3F/sync-review"),
        ("..", f"/records/{LOCAL.record_id}"),
        ("", f"/records/{LOCAL.record_id}"),
        ("7" * 201, f"/records/{LOCAL.record_id}"),
    ],
)
def test_the_link_survives_every_appointment_id(appointment_id: str, path: str) -> None:
    assert LOCAL.appointment is not None
    flag = replace(LOCAL, appointment=replace(LOCAL.appointment, appointment_id=appointment_id))
    assert review_url(flag, CONSOLE) == f"https://console.example.com{path}"


@pytest.mark.parametrize(
    ("of", "query"),
    [
        ([], ""),
        ([Kind.ORPHANED_LOCAL], "?kind=ORPHANED_LOCAL"),
        ([Kind.DATA_MISMATCH, Kind.AMBIGUOUS_MATCH], "?status=failed"),
        ([Kind.ORPHANED_LOCAL, Kind.AMBIGUOUS_MATCH], ""),
    ],
)
def test_the_queue_is_filtered_as_far_as_one_filter_has_all(of: list[Kind], query: str) -> None:
    assert queue_url(CONSOLE, of) == f"https://console.example.com/review{query}"


def test_without_an_appointment_it_is_named_by_its_booking_and_without_both_by_its_record() -> None:
    assert story.about(LOCAL, EN.tongue) == "Appointment #4711"
    assert story.about(LOCAL, DE.tongue) == "Termin #4711"
    assert story.about(CALCOM, DE.tongue) == "Buchung bFJeAbc00"
    bare = replace(LOCAL, appointment=None, record_id=UUID(int=2))
    assert story.about(bare, DE.tongue) == f"Fall {UUID(int=2)}"


def test_long_text_is_cut_and_joiners_stay() -> None:
    assert plain("x" * 300) == "x" * 199 + "…"
    assert plain("👩\u200d⚕️") == "👩\u200d⚕️"
    assert len(plain("x " * 5_000_000)) == 200
    assert plain(" a\r\n\tb\u2028c\u202ed\x00\ud800e ") == "a b cd e"
