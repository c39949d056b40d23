"""Open records as the reconciler leaves them: each kind made by itself once, and copied under other names.

A template is the text of a row for COPY, made by the reconciler's own decoding, folding and encoding of a case; only
what is a case's own (its company, number, ids, people's marks and moment) is put in anew.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from schemas.envelope import Envelope
from schemas.flags import Kind
from services.plumbing.lanes import partition_of
from services.reconciler import rows, store
from services.reconciler.core.events import DeadlineReached
from services.reconciler.core.people import by_email, by_phone, mark
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import flag_id, record_id
from services.reconciler.decode import Ignored, decode
from services.reconciler.desk import Desk
from services.reconciler.ports import Changes, Loaded
from tests.bench import bodies
from tests.bench.filling import COMPANIES
from tests.bench.ground import PARTITIONS
from tests.support import builders

#: The moment at which the bench stands still. What is open was heard of shortly before it, and no window is over.
NOW: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
#: Cases differ in kind, start and moment by their place; so many places, then they repeat.
PLACES: Final = 240
#: An appointment that names no booking, one that does, a booking, both but at different times, a booking of a series.
KINDS: Final = 5
#: Of so many places one was flagged and waits for a human; the others wait for the end of their window.
_FLAGGED_OF: Final = 10
#: Numbers have nine digits, so that one can be put in the place of another.
FIRST: Final = 100_000_000
_SAMPLE: Final = 987_654_321
#: Cases of a place came within one minute: what of a moment is their own.
_MOMENT: Final = ":31.123457"
#: A window that no turn of a bench comes to the end of.
POLICY: Final = Policy(window_seconds=86_400.0)


def company_of(number: int) -> str:
    """Give a case's company."""
    return COMPANIES[number % len(COMPANIES)]


class Template(Struct, frozen=True):
    """Rows of one place: what `%` takes a `names` for."""

    record: str
    keys: str
    flags: str
    anchor: str
    kind: Kind


def is_flagged(place: int) -> bool:
    """Tell whether a case waits for a human."""
    return place // KINDS % _FLAGGED_OF == 0


def told(company: str, number: int, place: int) -> list[Envelope]:
    """Give what is known of an open case; its kind is its place's."""
    starts_at = bodies.starts_at(place)
    received_at = NOW - timedelta(minutes=1 + place) + timedelta(seconds=31, microseconds=123_457)
    at: dict[str, Any] = {"company_id": company, "received_at": received_at}
    alone, linked, booked, differing, series = (place % KINDS == kind for kind in range(KINDS))
    found: list[Envelope] = []
    if alone or linked or differing:
        found.append(
            builders.from_app(bodies.appointment(company, number, linked=not alone, starts_at=starts_at), **at)
        )
    if booked:
        found.append(builders.from_calcom(bodies.webhook(company, number, starts_at=starts_at), **at))
    if differing:
        moved = starts_at + builders.HALF_AN_HOUR
        found.append(builders.from_calcom(bodies.webhook(company, number, starts_at=moved), **at))
    if series:
        weekly = bodies.webhook(company, number, starts_at=starts_at, recurringEvent=builders.WEEKLY)
        found.append(builders.from_calcom(weekly, **at))
    return found


def texts(table: str, numbers: Iterable[int]) -> Iterator[str]:
    """Give the text that COPY takes for cases: of `records`, `record_keys` or `flags`."""
    made = _templates()
    column = {"records": "record", "record_keys": "keys", "flags": "flags"}[table]
    laid = [getattr(template, column) for template in made]
    homes = {company: partition_of(company, PARTITIONS) for company in COMPANIES}
    for number in numbers:
        place = number % PLACES
        if laid[place]:
            yield laid[place] % _names(number, made[place], homes[company_of(number)], table)


def _names(number: int, template: Template, home: int, table: str) -> dict[str, object]:
    """Give what is a case's own."""
    company = company_of(number)
    itself = record_id(company, template.anchor % {"company": company, "number": number})
    names: dict[str, object] = {
        "company": company,
        "number": number,
        "partition": home,
        "record": itself,
        "moment": f":{number // PLACES % 60:02d}.{100_001 + number * 7 % 899_998:06d}",
    }
    if table == "record_keys":
        names |= {"email": _email(company, number), "phone": _phone(number)}
    elif template.flags:
        names["flag"] = flag_id(itself, company, template.kind, 1)
    return names


def _email(company: str, number: int) -> str:
    return mark(f"e:nora.guest.{number}@{company}.example.org")


def _phone(number: int) -> str:
    return mark(f"p:+4930{number:09d}")


@lru_cache(maxsize=1)
def _templates() -> list[Template]:
    company = company_of(_SAMPLE)
    assert by_email(f"nora.guest.{_SAMPLE}@{company}.example.org", "DE") is not None
    assert by_phone(f"+4930{_SAMPLE:09d}", "DE") == f"p:+4930{_SAMPLE:09d}"
    return [_template(company, place) for place in range(PLACES)]


def _template(company: str, place: int) -> Template:
    flagged = is_flagged(place)
    changes = folded(company, _SAMPLE, place, flagged=flagged)
    ((record, _, at),) = changes.records.values()
    assert record.finding is not None
    assert (record.flag is not None) is flagged
    named = {
        company: "company",
        str(_SAMPLE): "number",
        str(record.record_id): "record",
        _MOMENT: "moment",
        _email(company, _SAMPLE): "email",
        _phone(_SAMPLE): "phone",
    }
    if record.flag:
        named[str(record.flag.id)] = "flag"
    columns = [_text(value) for value in rows.columns(record, 0, at)]
    columns[[name for name, _ in rows.COLUMNS].index("kafka_partition")] = "\0"
    keys = [f"{where}\t{key}\t{cluster}\n" for (where, key), cluster in changes.keys.items()]
    flags = ["\t".join(map(_text, store._flag_row(flag))) + "\n" for flag, _ in changes.flags]
    return Template(
        record=_opened("\t".join(columns) + "\n", named).replace("\0", "%(partition)d"),
        keys=_opened("".join(keys), named),
        flags=_opened("".join(flags), named),
        anchor=_opened(record.anchor, named),
        kind=record.finding.kind,
    )


def folded(company: str, number: int, place: int, *, flagged: bool) -> Changes:
    """Let the reconciler itself come to an open case; gives all that it would save."""
    desk = Desk(Loaded({}, {}, {}), Changes.begin(NOW, {0: 1}))
    for envelope in told(company, number, place):
        for event in decode(envelope):
            assert not isinstance(event, Ignored)
            desk.fold(company, event, POLICY, 0, envelope.received_at)
    if flagged:
        ((_, itself),) = desk.changes.records
        later = NOW + timedelta(days=9)
        desk.fold(company, DeadlineReached(record_id=itself, at=NOW, known_until=later), POLICY, 0, NOW)
    return desk.changes


def _opened(text: str, named: dict[str, str]) -> str:
    text = text.replace("%", "%%")
    for value, name in named.items():
        text = text.replace(value, f"%({name})s")
    return text


def _text(value: object) -> str:
    """Spell a value as COPY's text format does."""
    if value is None:
        return r"\N"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n")
