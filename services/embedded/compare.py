"""What was planted beside what was found, record by record. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from schemas.flags import SyncStatus
from services.embedded.morning import Case, Truth


class Line(Struct):
    """One kind: how many were planted, how they must end, how many did. `verdict`: what Cal.com must answer."""

    kind: str
    expected: str
    verdict: str | None = None
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
    """Compare a plan with records in the shape of `reconcal records --json`.

    Where the plan says so, each record has `verdict` and `flags`, too: what Cal.com answered last, and how often it was
    ever flagged.
    """
    left = {id(record): record for record in records}
    by_name = {name: record for record in left.values() for name in _names(record)}
    lines: dict[str, Line] = {}
    differences: list[str] = []
    for case in cases:
        truth = case.truth
        line = lines.setdefault(case.kind, Line(case.kind, _expected(truth), truth.verdict))
        line.planted += 1
        record, wanted = by_name.get(_name(truth)), _wanted(truth)
        if record is not None:
            left.pop(id(record), None)
        state = _state(record, wanted)
        if state == wanted:
            line.found += 1
        else:
            differences.append(f"{case.kind}: {_name(truth)} must be {wanted}, is {state}")
    differences += [f"nobody planted {' and '.join(_names(record))}: {_state(record)}" for record in left.values()]
    return Comparison(list(lines.values()), differences)


def mailed_in_vain(cases: Iterable[Case], mails: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the mails about what must never be flagged; mails in the shape of `GET {mailbox}/messages`."""
    well = {name: case for case in cases if case.truth.flags == 0 for name in _mail_names(case.truth)}
    named = [name for mail in mails for name in words_of(mail)]
    return [f"{well[name].kind}: a mail went out about {name}" for name in named if name in well]


def words_of(mail: Mapping[str, Any]) -> list[str]:
    """Give the words of a mail's text, the names of records among them, without what stands around them."""
    return [word.strip(_AROUND) for word in mail["text"].split()]


_AROUND: Final = ".,:;()"


def _mail_names(truth: Truth) -> list[str]:
    """Give how a mail names a record."""
    return [f"#{truth.appointment_id}", *([truth.uid] if truth.uid else [])]


def _name(truth: Truth) -> str:
    return f"appointment {truth.appointment_id}" if truth.appointment_id else f"booking {truth.uid}"


def _names(record: Mapping[str, Any]) -> list[str]:
    names = [f"appointment {record['appointment']['id']}"] if record["appointment"] else []
    return names + ([f"booking {record['booking']['uid']}"] if record["booking"] else [])


def _expected(truth: Truth) -> str:
    return f"failed, {truth.code}" if truth.status is SyncStatus.FAILED else truth.status.value


_State = dict[str, str | int | None]


def _wanted(truth: Truth) -> _State:
    wanted: _State = {
        "appointment": truth.appointment_id,
        "booking": truth.uid,
        "status": truth.status.value,
        "code": truth.code.value if truth.code else None,
    }
    if truth.verdict is not None:
        wanted["verdict"] = truth.verdict.value
    if truth.flags is not None:
        wanted["flags"] = truth.flags
    return wanted


def _state(record: Mapping[str, Any] | None, wanted: Iterable[str] = ()) -> _State | None:
    """Give how a record is; of what Cal.com answered and of its flags, what is wanted."""
    if record is None:
        return None
    appointment, booking = record["appointment"], record["booking"]
    return {
        "appointment": appointment["id"] if appointment else None,
        "booking": booking["uid"] if booking else None,
        "status": record["calcom_sync_status"],
        "code": record["sync_error_code"],
    } | {name: record[name] for name in ("verdict", "flags") if name in wanted}
