"""What was planted beside what was found, record by record. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from schemas.flags import SyncStatus
from services.embedded.morning import Case, Truth


class Line(Struct):
    """One kind: how many were planted, how they must end, how many did."""

    kind: str
    expected: str
    planted: int = 0
    found: int = 0


class Comparison(Struct):
    """The table, and every record that is not as it should be, in words."""

    lines: list[Line]
    differences: list[str]

    @property
    def agrees(self) -> bool:
        """Tell whether everything planted was found, and nothing else."""
        return not self.differences


def compare(cases: Iterable[Case], records: Iterable[Mapping[str, Any]]) -> Comparison:
    """Compare a plan with records in the shape of `reconcal records --json`."""
    left = {id(record): record for record in records}
    by_name = {name: record for record in left.values() for name in _names(record)}
    lines: dict[str, Line] = {}
    differences: list[str] = []
    for case in cases:
        line = lines.setdefault(case.kind, Line(case.kind, _expected(case.truth)))
        line.planted += 1
        record = by_name.get(_name(case.truth))
        if record is not None:
            left.pop(id(record), None)
        if _state(record) == _wanted(case.truth):
            line.found += 1
        else:
            differences.append(f"{case.kind}: {_name(case.truth)} must be {_wanted(case.truth)}, is {_state(record)}")
    differences += [f"nobody planted {' and '.join(_names(record))}: {_state(record)}" for record in left.values()]
    return Comparison(list(lines.values()), differences)


def _name(truth: Truth) -> str:
    return f"appointment {truth.appointment_id}" if truth.appointment_id else f"booking {truth.uid}"


def _names(record: Mapping[str, Any]) -> list[str]:
    names = [f"appointment {record['appointment']['id']}"] if record["appointment"] else []
    return names + ([f"booking {record['booking']['uid']}"] if record["booking"] else [])


def _expected(truth: Truth) -> str:
    return f"failed, {truth.code}" if truth.status is SyncStatus.FAILED else truth.status.value


def _wanted(truth: Truth) -> dict[str, str | None]:
    return {
        "appointment": truth.appointment_id,
        "booking": truth.uid,
        "status": truth.status.value,
        "code": truth.code.value if truth.code else None,
    }


def _state(record: Mapping[str, Any] | None) -> dict[str, str | None] | None:
    if record is None:
        return None
    appointment, booking = record["appointment"], record["booking"]
    return {
        "appointment": appointment["id"] if appointment else None,
        "booking": booking["uid"] if booking else None,
        "status": record["calcom_sync_status"],
        "code": record["sync_error_code"],
    }
