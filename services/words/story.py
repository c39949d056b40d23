"""What a flag tells a person: pure, in words, ready to be laid out."""

from collections.abc import Collection
from datetime import datetime
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from schemas.flags import Flag, FlagType, Inconsistency, Kind, Measured
from services.words import kinds
from services.words.moments import aware, in_short, in_zone
from services.words.plain import plain
from services.words.tongue import Tongue, mark, mark_n

_INSTANTS: Final = frozenset({"starts_at", "ends_at"})
#: A longer id makes no link that people or mail programs take.
_LONGEST_ID: Final = 200
_NAME_MAX: Final = 120
_ID_MAX: Final = 80
_ROW_MAX: Final = 48
_REASON_MAX: Final = 600
_FIELDS_MAX: Final = 8

NOT_KNOWN: Final = mark("not known")
_OVER: Final = mark("This is resolved.")
_HAS_BEGUN: Final = mark("%(time)s, has begun already")
_HOURS: Final = mark_n("%(number)s hour", "%(number)s hours")
_MINUTES: Final = mark_n("%(number)s minute", "%(number)s minutes")


class Voice(Struct, frozen=True, kw_only=True):
    """Who tells: in which language, on whose clock (an IANA zone), and where the pages are (a URL)."""

    tongue: Tongue
    time_zone: str
    console_url: str


class Difference(Struct, frozen=True):
    """One field in which the sides differ, both values in words."""

    field: str
    local: str
    calcom: str


class Story(Struct, frozen=True, kw_only=True):
    """A flag in words. Text from outside is one harmless line each, not escaped for HTML."""

    kind: Kind
    resolved: bool
    name: str  # what the issue is called
    about: str  # "Appointment #4711"; empty, where it is about the company
    happened: str
    grounds: str | None = None  # what Cal.com's API said or why it said nothing; the cause, where it is the company's
    facts: tuple[tuple[str, str], ...] = ()  # label, value; the one time that names the zone, which is that of all
    differences: tuple[Difference, ...] = ()
    next_step: str
    commands: tuple[str, ...] = ()  # for whoever runs Reconcal
    url: str


class Line(Struct, frozen=True, kw_only=True):
    """A flag in a list: as a Story, but short. `time` names no zone. `issue`: how it ended, where it has."""

    about: str
    customer: str
    time: str
    begun: bool
    issue: str
    url: str


def tell(flag: Flag, voice: Voice, *, at: datetime | None = None) -> Story:
    """Put a flag into words for the people of its company; `at`: when, to say whether the appointment has begun."""
    return _of_a_record(flag, voice, at) if kinds.about_records(flag.kind) else _of_the_company(flag, voice)


def line(flag: Flag, voice: Voice, *, at: datetime | None = None) -> Line:
    """Put a flag about a record into one line."""
    say, moment = voice.tongue.gettext, starts_at(flag)
    return Line(
        about=about(flag, voice.tongue, most=_ROW_MAX),
        customer=plain(customer(flag) or "", _ROW_MAX) or say(NOT_KNOWN),
        time=in_short(moment, voice.time_zone, voice.tongue) if moment else say(NOT_KNOWN),
        begun=not resolved(flag) and has_begun(flag, at),
        issue=ended_briefly(flag, voice.tongue) if resolved(flag) else _issue(flag, voice.tongue),
        url=review_url(flag, voice.console_url),
    )


def resolved(flag: Flag) -> bool:
    """Tell whether the flag ends another one."""
    return flag.type is FlagType.RESOLVED


def starts_at(flag: Flag) -> datetime | None:
    """Give the moment that the appointment begins, aware; the app's word counts first."""
    side = flag.appointment or flag.booking
    moment = side.starts_at if side else None
    return None if moment is None else aware(moment)


def has_begun(flag: Flag, at: datetime | None) -> bool:
    """Tell whether the appointment has begun at that moment."""
    moment = starts_at(flag)
    return moment is not None and at is not None and moment < aware(at)


def customer(flag: Flag) -> str | None:
    """Give the customer's name, by either side."""
    local = flag.appointment.customer_name if flag.appointment else None
    name = local or (flag.booking.attendee_name if flag.booking else None)
    return plain(name, _NAME_MAX) or None if name else None


def about(flag: Flag, tongue: Tongue, *, most: int = _ID_MAX) -> str:
    """Name what a flag about a record is about: `Appointment #4711`, `Booking bFJe…`."""
    if flag.appointment:
        return tongue.gettext("Appointment #%(id)s", id=plain(flag.appointment.appointment_id, most))
    if flag.booking:
        return tongue.gettext("Booking %(uid)s", uid=plain(flag.booking.uid, most))
    return tongue.gettext("Case %(id)s", id=flag.record_id)


def ended_briefly(flag: Flag, tongue: Tongue) -> str:
    """Say how it ended, in a few words."""
    said = kinds.ENDED_BRIEFLY.get(flag.resolved_by)
    return tongue.gettext(said) if said else tongue.gettext(kinds.ENDED_BY_HAND_BRIEFLY, name=_who(flag))


def review_url(flag: Flag, console_url: str) -> str:
    """Give the address of the page on which the flag is reviewed."""
    root = console_url.rstrip("/")
    if not kinds.about_records(flag.kind):
        return queue_url(console_url)
    appointment_id = flag.appointment.appointment_id if flag.appointment else ""
    if appointment_id.strip(".") == "" or len(appointment_id) > _LONGEST_ID:  # none, or a browser's way up
        return f"{root}/records/{flag.record_id}"
    return f"{root}/admin/appointments/{quote(appointment_id, safe='', errors='replace')}/sync-review"


def queue_url(console_url: str, of: Collection[Kind] = ()) -> str:
    """Give the address of the page that lists what waits for review, of these kinds as far as it can be filtered."""
    root = f"{console_url.rstrip('/')}/review"
    if len(set(of)) == 1:
        return f"{root}?kind={next(iter(of))}"
    statuses = {kinds.STATUSES.get(kind) for kind in of}
    status = statuses.pop() if len(statuses) == 1 else None
    return f"{root}?status={status}" if status else root


def _of_the_company(flag: Flag, voice: Voice) -> Story:
    """Tell of a company as a whole: of no record, so that the review page is that of all."""
    say, words, over = voice.tongue.gettext, kinds.WORDS[flag.kind], resolved(flag)
    noticed = say("Resolved at") if over else say("Noticed")
    company_id = plain(flag.company_id, _ID_MAX)
    commands = kinds.COMMANDS.get(flag.kind, ())
    return Story(
        kind=flag.kind,
        resolved=over,
        name=say(words.name),
        about="",
        happened=say(words.over or _OVER) if over else _happened_to_the_company(flag, voice.tongue),
        grounds=None if over else _cause(flag, voice.tongue),
        facts=((noticed, in_zone(flag.decided_at, voice.time_zone, voice.tongue)),),
        next_step=say(kinds.NEXT_RESOLVED_COMPANY) if over else say(words.next_step),
        commands=() if over else tuple(command.format(company_id=company_id) for command in commands),
        url=queue_url(voice.console_url),
    )


def _happened_to_the_company(flag: Flag, tongue: Tongue) -> str:
    happened = kinds.WORDS[flag.kind].happened
    if not kinds.is_threshold(flag.kind):
        return tongue.gettext(happened)
    return _measured(happened, flag.measured, tongue) if flag.measured else tongue.gettext(kinds.UNMEASURED)


def _measured(happened: str, measured: Measured, tongue: Tongue) -> str:
    return tongue.gettext(
        happened,
        value=tongue.number(measured.value),
        limit=tongue.number(measured.limit),
        window=_span(measured.window_seconds or 86_400.0, tongue),
    )


def _span(seconds: float, tongue: Tongue) -> str:
    minutes = max(round(seconds / 60), 1)
    return tongue.ngettext(*_MINUTES, minutes) if minutes % 60 else tongue.ngettext(*_HOURS, minutes // 60)


def _cause(flag: Flag, tongue: Tongue) -> str | None:
    """Give the flag's own reason, which is English; in another language after a sentence of ours, where we have one."""
    if kinds.is_threshold(flag.kind):
        return None  # the figures say it
    detail, known = plain(flag.reason, _REASON_MAX), kinds.TROUBLES.get(flag.why.note or "", "")
    if tongue.language == "en":
        return detail or known or None
    told = [tongue.gettext(known), tongue.gettext(kinds.DETAIL, detail=detail) if detail else ""]
    return " ".join(sentence for sentence in told if sentence) or None


def _of_a_record(flag: Flag, voice: Voice, at: datetime | None) -> Story:
    over = resolved(flag)
    return Story(
        kind=flag.kind,
        resolved=over,
        name=kinds.name(flag.kind, voice.tongue),
        about=about(flag, voice.tongue),
        happened=_ended(flag, voice.tongue) if over else voice.tongue.gettext(_happened(flag)),
        grounds=None if over else _grounds(flag, voice),
        facts=tuple(_facts(flag, voice, at)),
        differences=() if over else tuple(_difference(found, voice) for found in flag.inconsistencies[:_FIELDS_MAX]),
        next_step=voice.tongue.gettext(kinds.NEXT_RESOLVED) if over else kinds.next_step(flag.kind, voice.tongue),
        url=review_url(flag, voice.console_url),
    )


def _happened(flag: Flag) -> str:
    if flag.appointment and flag.appointment.status == "deleted" and flag.booking:
        return kinds.DELETED
    if flag.kind is Kind.ORPHANED_LOCAL and flag.booking:
        return kinds.GONE
    return kinds.WORDS[flag.kind].happened


def _ended(flag: Flag, tongue: Tongue) -> str:
    said = kinds.ENDED.get(flag.resolved_by)
    return tongue.gettext(said) if said else tongue.gettext(kinds.ENDED_BY_HAND, name=_who(flag))


def _who(flag: Flag) -> str:
    return plain(flag.resolved_by or "", _ID_MAX) or "?"


def _grounds(flag: Flag, voice: Voice) -> str | None:
    """Say what Cal.com's API said; nothing where the verdict is a word that we do not know."""
    alone = flag.kind is Kind.ORPHANED_CALCOM or not flag.appointment
    said = (kinds.SAID_ALONE if alone else kinds.SAID).get(flag.verdict)
    if said is None:
        return None
    asked_at = in_short(flag.why.observed_at or flag.decided_at, voice.time_zone, voice.tongue)
    cause = voice.tongue.gettext(kinds.CAUSES.get(flag.why.answer or "", kinds.CAUSE_UNKNOWN))
    return voice.tongue.gettext(said, at=asked_at, cause=cause)


def _facts(flag: Flag, voice: Voice, at: datetime | None) -> list[tuple[str, str]]:
    say, moment = voice.tongue.gettext, starts_at(flag)
    facts = [(say("Issue"), kinds.name(flag.kind, voice.tongue))]
    if flag.appointment:
        facts.append((say("Appointment"), f"#{plain(flag.appointment.appointment_id, _ID_MAX)}"))
    if flag.booking:
        facts.append((say("Booking"), plain(flag.booking.uid, _ID_MAX) or say(NOT_KNOWN)))
    facts.append((say("Customer"), customer(flag) or say(NOT_KNOWN)))
    time = in_zone(moment, voice.time_zone, voice.tongue) if moment else say(NOT_KNOWN)
    begun = not resolved(flag) and has_begun(flag, at)
    facts.append((say("Time"), say(_HAS_BEGUN, time=time) if begun else time))
    return facts


def _issue(flag: Flag, tongue: Tongue) -> str:
    """Name the issue; of sides that differ also in what."""
    name = kinds.name(flag.kind, tongue)
    if flag.kind is not Kind.DATA_MISMATCH or not flag.inconsistencies:
        return name
    fields = (_field(found.field, tongue) for found in flag.inconsistencies[:_FIELDS_MAX])
    return f"{name}: {', '.join(dict.fromkeys(fields))}"


def _field(field: str, tongue: Tongue) -> str:
    known = kinds.FIELDS.get(field)
    return tongue.gettext(known) if known else plain(field, 40)


def _difference(found: Inconsistency, voice: Voice) -> Difference:
    local, calcom = (_value(found.field, value, voice) for value in (found.local, found.calcom))
    return Difference(_field(found.field, voice.tongue), local, calcom)


def _value(field: str, value: str | None, voice: Voice) -> str:
    if value is None:
        return voice.tongue.gettext("not given")
    if field in _INSTANTS:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return plain(value, _ID_MAX)
        return in_short(moment, voice.time_zone, voice.tongue)
    state = kinds.STATES.get(value.lower()) if field == "status" else None
    return voice.tongue.gettext(state) if state else plain(value, _ID_MAX)
