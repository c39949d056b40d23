"""Holds what came of a world against what was planted: every record as it must be, no flag too many, none missing."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from schemas.flags import Flag, FlagType
from services.reconciler.core.record import Record
from services.reconciler.core.sides import booking_facts
from tests.sim.pen import BEGIN, Case, End
from tests.support.memory import MemoryStore

Name = tuple[str | None, frozenset[str], str | None]


def judge(cases: Sequence[Case], store: MemoryStore) -> None:
    """Raise AssertionError that names the first case that did not end as planted."""
    planted = {(case.company_id, case.number): case for case in cases}
    found: dict[tuple[str, int], list[Record]] = {place: [] for place in planted}
    for record, _ in store.records.values():
        found[_place(record)].append(record)
    told: dict[tuple[str, UUID], list[Flag]] = {}
    for flag in store.outbox:
        told.setdefault((flag.company_id, _final(store, flag.company_id, flag.record_id)), []).append(flag)
    for place, case in planted.items():
        _judge_case(case, found[place], told)


def _judge_case(case: Case, found: list[Record], told: dict[tuple[str, UUID], list[Flag]]) -> None:
    where = f"{case.company_id} {case.number} ({case.name})"
    records = {_name(record): record for record in found}
    ends = _by_name(case.ends)
    if records.keys() == _by_name(case.or_ends).keys():
        ends = _by_name(case.or_ends)
    assert len(records) == len(found), f"{where}: two records of the same sides {_shown(found)}"
    assert records.keys() == ends.keys(), f"{where}: records {_shown(found)}, planted {_planted(ends.values())}"
    for name, end in ends.items():
        flags = told.get((case.company_id, records[name].record_id), [])
        _judge_record(where, end, records[name], flags)


def _by_name(ends: Iterable[End]) -> dict[Name, End]:
    return {(end.appointment_id, frozenset(end.uids), end.seat): end for end in ends}


def _judge_record(where: str, end: End, record: Record, flags: list[Flag]) -> None:
    which = f"{where} {end.appointment_id or end.uids[-1]}"
    assert record.status.value == end.status, f"{which}: is {record.status.value}, planted {end.status}"
    if record.chain:
        in_force = booking_facts(record.chain).uid
        assert in_force == end.in_force, f"{which}: {in_force} is in force, planted {end.in_force}"
    types = tuple([flag.type.value for flag in flags])
    assert types in end.flags, f"{which}: told {types}, allowed {end.flags}"
    for flag in flags:
        if flag.type is not FlagType.RESOLVED:
            _judge_moment(which, flag, BEGIN + timedelta(seconds=end.not_before))


def _judge_moment(which: str, flag: Flag, not_before: datetime) -> None:
    decided_at, deadline_at = flag.decided_at, flag.deadline_at
    assert decided_at > not_before, f"{which}: {flag.type} at {decided_at}, not to be before {not_before}"
    assert deadline_at is not None, f"{which}: {flag.type} without a deadline"
    assert decided_at > deadline_at, f"{which}: {flag.type} at {decided_at}, before its deadline {deadline_at}"


def _place(record: Record) -> tuple[str, int]:
    """Tell the case by the number in the names that it gave."""
    if record.appointment:
        return record.company_id, int(record.appointment.appointment_id.partition("-")[0])
    return record.company_id, int(record.chain[0].uid[1:])


def _name(record: Record) -> Name:
    appointment_id = record.appointment.appointment_id if record.appointment else None
    seat = record.chain[-1].seat if record.chain else None
    return appointment_id, frozenset(side.uid for side in record.chain), seat


def _final(store: MemoryStore, company_id: str, record_id: UUID) -> UUID:
    """Follow a record to the one that took it in."""
    while (company_id, record_id) not in store.records:
        record_id = store.aliases[(company_id, record_id)]
    return record_id


def _shown(found: Sequence[Record]) -> list[str]:
    names = [_name(record) for record in found]
    return sorted(f"{a or '-'} = {'+'.join(sorted(uids)) or '-'} {seat or ''}".rstrip() for a, uids, seat in names)


def _planted(ends: Iterable[End]) -> list[str]:
    return sorted(f"{e.appointment_id or '-'} = {'+'.join(e.uids) or '-'} {e.seat or ''}".rstrip() for e in ends)
