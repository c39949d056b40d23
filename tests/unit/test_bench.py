"""What the benches stand on: rows that are copied by the million are those that the reconciler itself would write."""

import re

from services.reconciler import rows
from tests.bench.open_templates import FIRST, PLACES, company_of, folded, is_flagged, texts

#: A webhook has no id of its own: it goes by a hash of its body.
_EVENT_ID = re.compile(r"cal-\d+-[0-9a-f]+")
_MOMENT = re.compile(r":\d\d\.\d{6}")
_NAMES = [name for name, _ in rows.COLUMNS]


def test_copied_keys_are_those_that_the_reconciler_finds() -> None:
    for number in range(FIRST + 7 * PLACES, FIRST + 8 * PLACES):
        place = number % PLACES
        changes = folded(company_of(number), number, place, flagged=is_flagged(place))
        expected = {(company, key, str(cluster)) for (company, key), cluster in changes.keys.items()}
        (text,) = texts("record_keys", [number])
        assert {tuple(line.split("\t")) for line in text.splitlines()} == expected


def test_copied_records_say_what_the_reconciler_would_have_written() -> None:
    for number in range(FIRST + 7 * PLACES, FIRST + 8 * PLACES):
        place = number % PLACES
        changes = folded(company_of(number), number, place, flagged=is_flagged(place))
        ((record, _, _),) = changes.records.values()
        (text,) = texts("records", [number])
        row = dict(zip(_NAMES, text.rstrip("\n").split("\t"), strict=True))
        copied = rows.read(row["company_id"], row["facts"], row["decision"])
        assert (copied.record_id, copied.status, copied.flag) == (record.record_id, record.status, record.flag)
        assert _alike(rows.columns(copied, 0, record.first_received_at)) == _alike(
            rows.columns(record, 0, record.first_received_at)
        )


def test_copied_flags_are_those_of_the_flagged() -> None:
    numbers = range(FIRST, FIRST + PLACES)
    found = [text.split("\t")[1] for text in texts("flags", numbers)]
    expected: list[str] = []
    for number in numbers:
        changes = folded(company_of(number), number, number % PLACES, flagged=is_flagged(number % PLACES))
        expected.extend(str(flag.id) for flag, _ in changes.flags)
    assert found == expected
    assert found


def _alike(columns: tuple[object, ...]) -> list[str]:
    """Leave out what is a case's own: its moment, and the hash of a body."""
    return [_MOMENT.sub("", _EVENT_ID.sub("", str(value))) for value in columns]
