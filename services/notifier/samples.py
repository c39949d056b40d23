"""Letters to look at: made up, the same ones every time. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from msgspec.structs import replace

from schemas.flags import (
    IDS,
    RECORD_KINDS,
    THRESHOLDS,
    AppointmentFacts,
    BookingFacts,
    Flag,
    FlagType,
    Inconsistency,
    Kind,
    Measured,
    Why,
    company_record_id,
)
from services.notifier.letter import ROWS, Company, Letter, Occasion, Recipient

#: The moment at which all of them are written.
AT: Final = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)
COMPANY: Final = Company(company_id="praxis", name="Praxis am See", time_zone="Europe/Berlin")

_TYPES: Final[Mapping[Kind, FlagType]] = {
    Kind.ORPHANED_LOCAL: FlagType.ORPHANED_LOCAL,
    Kind.ORPHANED_CALCOM: FlagType.ORPHANED_CALCOM,
    Kind.DATA_MISMATCH: FlagType.DATA_MISMATCH,
    Kind.VERIFICATION_ERROR: FlagType.VERIFICATION_ERROR,
    Kind.AMBIGUOUS_MATCH: FlagType.AMBIGUOUS,
    Kind.WEBHOOK_SILENT: FlagType.WEBHOOK_SILENT,
    Kind.CALCOM_INCIDENT: FlagType.CALCOM_INCIDENT,
    Kind.ENDPOINT_OFF: FlagType.ENDPOINT_OFF,
    **dict.fromkeys(THRESHOLDS, FlagType.THRESHOLD),
}
_VERDICTS: Final[Mapping[Kind, str]] = {
    Kind.ORPHANED_LOCAL: "absent",
    Kind.ORPHANED_CALCOM: "found_equal",
    Kind.DATA_MISMATCH: "found_different",
    Kind.VERIFICATION_ERROR: "unknown",
}
#: As the services say it.
_REASONS: Final[Mapping[Kind, tuple[str | None, str]]] = {
    Kind.WEBHOOK_SILENT: ("inactive", "Our webhook at Cal.com is switched off."),
    Kind.CALCOM_INCIDENT: (
        "calcom_unauthorised",
        (
            "api.cal.com refuses the API key (Cal.com refuses the key (401): Invalid API key). Make a new one at "
            "Cal.com (Settings > Developer > API keys) and give it by `reconcal companies set praxis "
            "--calcom-api-key-file`. Nothing of the company is flagged meanwhile without Cal.com's word, until its "
            "waiting time is over."
        ),
    ),
    Kind.ENDPOINT_OFF: (
        None,
        (
            "The webhook at hooks.example.com was switched off: it took nothing since 2026-11-27 07:21 UTC; at last it "
            "answers status 500."
        ),
    ),
}
_MEASURED: Final[Mapping[Kind, Measured]] = {
    Kind.ORPHANS_A_DAY: Measured(value=7, limit=5, window_seconds=86_400.0),
    Kind.FAILED_CHECKS_AN_HOUR: Measured(value=12, limit=10, window_seconds=3_600.0),
    Kind.WAITING_FOR_REVIEW: Measured(value=23, limit=20),
    Kind.SYNC_SUCCESS: Measured(value=93.4, limit=95, window_seconds=86_400.0),
}
#: While the webhook is silent.
_HELD_BY_NOTHING: Final = (Kind.DATA_MISMATCH, Kind.VERIFICATION_ERROR, Kind.AMBIGUOUS_MATCH)
_NAMES: Final = ("Jörg Beispiel", "Nora Muster", "Ali Örnek", "Zoë Exemple", "Kim Ví Dụ")
_THREAD: Final = ("<5f0e9c1e-0000-4000-8000-000000000007.3@mail.example.com>",)


def letter(name: str) -> Letter:
    """Give the sample of that name, in whatever case. Raises KeyError if there is none."""
    return _SAMPLES[name.lower()]()


def recipient(language: str) -> Recipient:
    """Give the person that samples are written to."""
    token = UUID("b3a1c0de-0000-4000-8000-000000000042")
    return Recipient(
        recipient_id=UUID("5f0e9c1e-0000-4000-8000-000000000007"),
        name="Mia Muster",
        address="mia@example.com",
        language=language,
        preferences_token=token,
    )


def flag(kind: Kind, number: int = 0) -> Flag:
    """Give a flag of that kind; those of other numbers are others."""
    record_id = uuid5(IDS, f"sample record {number}")
    common = Flag(
        id=uuid5(IDS, f"sample {kind} {number}"),
        type=_TYPES[kind],
        company_id=COMPANY.company_id,
        record_id=record_id if kind in RECORD_KINDS else company_record_id(COMPANY.company_id),
        kind=kind,
        generation=1,
        decided_at=AT - timedelta(minutes=1),
        reason="made up",
        verdict=_VERDICTS.get(kind, "not_verified"),
    )
    return _of_a_record(common, number) if kind in RECORD_KINDS else _of_the_company(common)


def _of_the_company(common: Flag) -> Flag:
    note, reason = _REASONS.get(common.kind, (None, "made up"))
    return replace(common, reason=reason, why=Why(note=note), measured=_MEASURED.get(common.kind))


def _of_a_record(common: Flag, number: int) -> Flag:
    starts_at = AT + timedelta(hours=26.5) + number * timedelta(minutes=15)
    return replace(
        common,
        why=Why(observed_at=AT - timedelta(minutes=4), answer="timeout", attempts=4),
        appointment=None if common.kind is Kind.ORPHANED_CALCOM else _appointment(starts_at, number),
        booking=None if common.kind is Kind.ORPHANED_LOCAL else _booking(starts_at, number),
        inconsistencies=_differences(starts_at) if common.kind is Kind.DATA_MISMATCH else (),
    )


def _appointment(starts_at: datetime, number: int) -> AppointmentFacts:
    return AppointmentFacts(
        appointment_id=str(4711 + number),
        status="confirmed",
        starts_at=starts_at,
        customer_name=_NAMES[number % len(_NAMES)],
    )


def _booking(starts_at: datetime, number: int) -> BookingFacts:
    uid = f"bFJeAbc{number:02}"
    return BookingFacts(
        uid=uid, chain=(uid,), status="ACCEPTED", starts_at=starts_at, attendee_name=_NAMES[number % len(_NAMES)]
    )


def _differences(starts_at: datetime) -> tuple[Inconsistency, ...]:
    moved = starts_at + timedelta(minutes=90)
    return (
        Inconsistency("starts_at", starts_at.isoformat(), moved.isoformat()),
        Inconsistency("status", "confirmed", "CANCELLED"),
    )


def _resolved(of: Flag, by: str) -> Flag:
    return replace(
        of,
        id=uuid5(of.id, "resolved"),
        type=FlagType.RESOLVED,
        decided_at=AT - timedelta(minutes=1),
        resolves=of.id,
        resolved_by=by,
    )


def _news(flags: Sequence[Flag], occasion: Occasion = Occasion.NEWS) -> Letter:
    counts: dict[str, int] = {}
    for one in flags:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    return Letter(occasion=occasion, written_at=AT, news=tuple(flags[:ROWS]), news_counts=counts)


def _alone(kind: Kind) -> Letter:
    if kind in RECORD_KINDS:
        return _news([flag(kind)])
    return Letter(occasion=Occasion.NEWS, written_at=AT, notices=(flag(kind),))


def _many(number: int, first: int = 0) -> list[Flag]:
    return [flag(RECORD_KINDS[one % len(RECORD_KINDS)], one) for one in range(first, first + number)]


def _ends(number: int, first: int) -> tuple[Flag, ...]:
    by = ("auto", "Mia Muster", "merged")
    return tuple(_resolved(one, by[position % len(by)]) for position, one in enumerate(_many(number, first)))


def _resolved_letter() -> Letter:
    return Letter(
        occasion=Occasion.NEWS,
        written_at=AT,
        ended=_ends(1, 0),
        ended_total=1,
        thread=_THREAD,
        thread_subject="Cal.com Sync Issue: Appointment #4711",
    )


def _reminder() -> Letter:
    return Letter(occasion=Occasion.REMINDER, written_at=AT, open=tuple(_many(ROWS)), open_total=32, thread=_THREAD)


def _daily() -> Letter:
    return replace(
        _news(_many(6), Occasion.DAILY), ended=_ends(3, 40), ended_total=3, open=tuple(_many(4, 60)), open_total=4
    )


def _mixed() -> Letter:
    """Everything at once: trouble that goes on and some that is over, what is new, begun, held back and resolved.

    Nothing new is of a kind that the silent webhook holds back.
    """
    begun = flag(Kind.DATA_MISMATCH, -120)
    return replace(
        _news([begun, *(flag(kind, number) for number, kind in enumerate(_HELD_BY_NOTHING))]),
        notices=(flag(Kind.FAILED_CHECKS_AN_HOUR), flag(Kind.WEBHOOK_SILENT)),
        notices_over=(_resolved(flag(Kind.ENDPOINT_OFF), "auto"),),
        ended=_ends(3, 40),
        ended_total=3,
        held_total=480,
        thread=_THREAD,
        failing_since=AT - timedelta(hours=26),
    )


_SAMPLES: Final[Mapping[str, Callable[[], Letter]]] = {
    **{kind.lower(): lambda kind=kind: _alone(kind) for kind in Kind},  # type: ignore[misc] # the default binds it
    "digest": lambda: _news(_many(25)),
    "resolved": _resolved_letter,
    "reminder": _reminder,
    "daily": _daily,
    "mixed": _mixed,
    "sample": lambda: _news([flag(Kind.ORPHANED_LOCAL)], Occasion.SAMPLE),
}
#: What there is to look at: every kind alone, and how letters of many look.
NAMES: Final = tuple(_SAMPLES)
