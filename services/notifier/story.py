"""What a flag tells a person: pure, in words, ready to be laid out."""

from datetime import UTC, datetime, tzinfo
from typing import Final
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from schemas.flags import Flag, FlagType, Inconsistency
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
    resolved: bool
    happened: str
    facts: tuple[tuple[str, str], ...]  # label, value
    differences: tuple[Difference, ...]
    next_step: str
    url: str


def tell(flag: Flag, company: Company, *, console_url: str) -> Story:
    """Put a flag into words for the people of its company."""
    resolved = flag.type is FlagType.RESOLVED
    return Story(
        subject=f"Cal.com Sync Issue: {_subject(flag)}",
        resolved=resolved,
        happened=_happened(flag),
        facts=tuple(_facts(flag, company)),
        differences=() if resolved else tuple(_difference(found, company) for found in flag.inconsistencies),
        next_step=words.NEXT_RESOLVED if resolved else words.NEXT[flag.kind],
        url=review_url(flag, console_url),
    )


def starts_at(flag: Flag) -> datetime | None:
    """Give the moment that the appointment begins, aware; the app's word counts first."""
    side = flag.appointment or flag.booking
    moment = side.starts_at if side else None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


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
    local = _local(moment, company)
    name, short = str(local.tzinfo), local.tzname()
    zone = name if short in {name, None} else f"{name}, {short}"
    return f"{local:%d.%m.}{local.year:04d} {local:%H:%M} ({zone})"


def zone(name: str) -> tzinfo:
    """Give the zone of that name, or UTC where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, no name, a folder of names
        return UTC


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
    return words.HAPPENED[flag.kind]


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
        return in_zone(moment if moment.tzinfo else moment.replace(tzinfo=UTC), company)
    return plain(value, 80)
