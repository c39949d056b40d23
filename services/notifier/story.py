"""What a flag tells a person: pure, in words, ready to be laid out."""

from datetime import UTC, datetime, tzinfo
from typing import Final
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from schemas.flags import Flag, FlagType, Inconsistency, Kind
from services.notifier import words
from services.notifier.words import plain

_INSTANTS: Final = frozenset({"starts_at", "ends_at"})


class Company(Struct, frozen=True, kw_only=True):
    """The tenant, as far as a mail needs it."""

    company_id: str
    name: str
    time_zone: str


class Contact(Struct, frozen=True, kw_only=True):
    """A person of the company."""

    contact_id: UUID
    name: str
    email: str
    language: str = "en"


class Difference(Struct, frozen=True):
    """One field in which the sides differ, both values in words."""

    field: str
    local: str
    calcom: str


class Story(Struct, frozen=True, kw_only=True):
    """A flag in words. Text from outside is one harmless line each, not escaped for HTML."""

    subject: str
    heading: str
    resolved: bool
    happened: str
    grounds: str | None = None  # what Cal.com's API said or why it said nothing; the cause, where it is the webhook
    facts: tuple[tuple[str, str], ...]  # label, value
    differences: tuple[Difference, ...] = ()
    next_step: str
    commands: tuple[str, ...] = ()  # for whoever runs Reconcal
    url: str


def tell(flag: Flag, company: Company, *, console_url: str) -> Story:
    """Put a flag into words for the people of its company."""
    if flag.kind is Kind.WEBHOOK_SILENT:
        return _of_the_webhook(flag, company, console_url)
    resolved = flag.type is FlagType.RESOLVED
    return Story(
        subject=f"Cal.com Sync Issue: {_subject(flag)}",
        heading="Resolved" if resolved else "Cal.com sync issue",
        resolved=resolved,
        happened=_happened(flag),
        grounds=None if resolved else _grounds(flag, company),
        facts=tuple(_facts(flag, company)),
        differences=() if resolved else tuple(_difference(found, company) for found in flag.inconsistencies),
        next_step=words.NEXT_RESOLVED if resolved else words.NEXT[flag.kind],
        url=review_url(flag, console_url),
    )


def _of_the_webhook(flag: Flag, company: Company, console_url: str) -> Story:
    """Tell of a company's webhook: of no record, so that the review page is that of all."""
    resolved = flag.type is FlagType.RESOLVED
    facts = [("Company", plain(company.name, 120))]
    if not resolved:
        facts.append(("Noticed", in_zone(flag.decided_at, company)))
    company_id = plain(flag.company_id, 80)
    return Story(
        subject=f"Cal.com Webhook Silent: {plain(company.name, 80) or company_id}",
        heading="Resolved" if resolved else "Cal.com webhook silent",
        resolved=resolved,
        happened=words.RESOLVED_COMPANY if resolved else words.HAPPENED[flag.kind],
        grounds=None if resolved else plain(flag.reason, 400) or None,
        facts=tuple(facts),
        next_step=words.NEXT_RESOLVED_COMPANY if resolved else words.NEXT[flag.kind],
        commands=() if resolved else tuple(command.format(company_id=company_id) for command in words.COMMANDS),
        url=f"{console_url.rstrip('/')}/review",
    )


def starts_at(flag: Flag) -> datetime | None:
    """Give the moment that the appointment begins, aware; the app's word counts first."""
    side = flag.appointment or flag.booking
    moment = side.starts_at if side else None
    return None if moment is None else _aware(moment)


def customer(flag: Flag) -> str | None:
    """Give the customer's name, by either side."""
    local = flag.appointment.customer_name if flag.appointment else None
    name = local or (flag.booking.attendee_name if flag.booking else None)
    return plain(name, 120) or None if name else None


def review_url(flag: Flag, console_url: str) -> str:
    """Give the address of the page on which the flag is reviewed."""
    root = console_url.rstrip("/")
    appointment_id = flag.appointment.appointment_id if flag.appointment else ""
    if appointment_id.strip(".") == "":  # no id, or one that a browser would take for a way up
        return f"{root}/records/{flag.record_id}"
    return f"{root}/admin/appointments/{quote(appointment_id, safe='')}/sync-review"


def in_zone(moment: datetime, company: Company) -> str:
    """Write a moment as `dd.mm.YYYY HH:MM` on the company's clock, with the zone; an unknown zone is UTC."""
    local = _local(_aware(moment), company)
    name, short = str(local.tzinfo), local.tzname()
    zone = name if short in {name, None} else f"{name}, {short}"
    return f"{local:%d.%m.}{local.year:04d} {local:%H:%M} ({zone})"


def zone(name: str) -> tzinfo:
    """Give the zone of that name, or UTC where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, no name, a folder of names
        return UTC


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _local(moment: datetime, company: Company) -> datetime:
    try:
        return moment.astimezone(zone(company.time_zone))
    except OverflowError:  # the first or last day that there is
        return moment.astimezone(UTC)


def _subject(flag: Flag) -> str:
    if flag.appointment:
        return f"Appointment #{plain(flag.appointment.appointment_id, 80)}"
    if flag.booking:
        return f"Booking {plain(flag.booking.uid, 80)}"
    return f"Record {flag.record_id}"


def _happened(flag: Flag) -> str:
    if flag.type is FlagType.RESOLVED:
        return words.RESOLVED
    if flag.appointment and flag.appointment.status == "deleted" and flag.booking:
        return words.DELETED
    if flag.kind is Kind.ORPHANED_LOCAL and flag.booking:
        return words.GONE
    return words.HAPPENED[flag.kind]


def _grounds(flag: Flag, company: Company) -> str | None:
    """Say what Cal.com's API said; nothing where the verdict is a word that we do not know."""
    alone = flag.kind is Kind.ORPHANED_CALCOM or not flag.appointment
    said = (words.SAID_ALONE if alone else words.SAID).get(flag.verdict)
    asked_at = flag.why.observed_at or flag.decided_at
    cause = words.CAUSES.get(flag.why.answer or "", words.CAUSE_UNKNOWN)
    return said and said.format(at=in_zone(asked_at, company), cause=cause)


def _facts(flag: Flag, company: Company) -> list[tuple[str, str]]:
    moment, name = starts_at(flag), customer(flag)
    facts = [("Company", plain(company.name, 120))]
    if flag.appointment:
        facts.append(("Appointment", f"#{plain(flag.appointment.appointment_id, 80)}"))
    if flag.booking:
        facts.append(("Booking", plain(flag.booking.uid, 80)))
    facts.append(("Customer", name or "not known"))
    facts.append(("Time", in_zone(moment, company) if moment else "not known"))
    return facts


def _difference(found: Inconsistency, company: Company) -> Difference:
    field = words.FIELDS.get(found.field, plain(found.field, 40))
    return Difference(field, _value(found.field, found.local, company), _value(found.field, found.calcom, company))


def _value(field: str, value: str | None, company: Company) -> str:
    if value is None:
        return "not given"
    if field in _INSTANTS:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return plain(value, 80)
        return in_zone(moment, company)
    return plain(value, 80)
