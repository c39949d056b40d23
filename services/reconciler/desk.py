"""The desk: the records of one batch, laid out, decided upon, and the sheet of all that has to be saved.

Between load and save nothing awaits.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from schemas.envelope import Envelope
from services.reconciler.core.correlate import correlate
from services.reconciler.core.decision import Cluster, Decision
from services.reconciler.core.events import (
    CLOCK_AHEAD_MAX,
    CLOCK_BEHIND_MAX,
    OBSERVED,
    Checked,
    Commanded,
    DeadlineReached,
    Event,
    HeardAppointment,
    HeardBooking,
    PolicyChanged,
    event_id,
)
from services.reconciler.core.keys import key_of_subject, keys_of_appointment, keys_of_booking
from services.reconciler.core.matching import name_of
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.ports import Changes, ClusterRef, EventRow, Key, Loaded, RecordRef

#: What came so much later than the window allows is noted as late.
LATE_AFTER: Final = timedelta(seconds=30)


def keys_of(company_id: str, event: Event, policy: Policy) -> list[Key]:
    """Give the identity keys that an event touches; none for those that name a record."""
    if type(event) is HeardAppointment:
        return [(company_id, key) for key in keys_of_appointment(event, policy)]
    if type(event) is HeardBooking:
        return [(company_id, key) for key in keys_of_booking(event, policy)]
    if type(event) is Checked:
        return [(company_id, key_of_subject(event.answer.subject))]
    return []


def records_of(company_id: str, event: Event) -> list[RecordRef]:
    """Give the record that an event names."""
    if type(event) is Commanded:
        return [(company_id, event.command.record_id)]
    if type(event) is DeadlineReached:
        return [(company_id, event.record_id)]
    return []


class Desk:
    """One batch's working set. `changes` is what it has come to so far."""

    def __init__(self, loaded: Loaded, changes: Changes) -> None:
        """Lay out what was loaded."""
        self.changes = changes
        self._clusters: dict[Key, UUID] = dict(loaded.clusters)
        self._records: dict[ClusterRef, tuple[Record, ...]] = dict(loaded.records)
        self._of_record: dict[RecordRef, UUID] = dict(loaded.of_record)

    def over(self, loaded: Loaded, keys: Iterable[Key], named: Iterable[RecordRef]) -> Loaded:
        """Lay what this desk came to over what was loaded; before or after it was stored makes no difference."""
        moved = {(company_id, old): new for company_id, old, new in self.changes.merged}
        clusters = {key: _follow(moved, key[0], cluster_id) for key, cluster_id in loaded.clusters.items()}
        clusters |= {key: self._clusters[key] for key in keys if key in self._clusters}
        of_record = {ref: _follow(moved, ref[0], cluster_id) for ref, cluster_id in loaded.of_record.items()}
        of_record = {ref: at for ref, at in of_record.items() if (ref[0], at) not in self._records}
        of_record |= {ref: self._of_record[ref] for ref in named if ref in self._of_record}
        touched = {(ref[0], at) for ref, at in (*clusters.items(), *of_record.items())}
        records = {ref: laid for ref, laid in loaded.records.items() if ref in touched}
        records |= {ref: self._records[ref] for ref in touched if ref in self._records}
        for (company_id, cluster_id), laid in records.items():
            of_record |= {(company_id, record.record_id): cluster_id for record in laid}
        return Loaded(clusters, records, of_record)

    def fold(
        self,
        company_id: str,
        event: Event,
        policy: Policy,
        partition: int,
        at: datetime,
        keys: list[Key] | None = None,
        named: Iterable[RecordRef] | None = None,
    ) -> Decision:
        """Decide what an event comes to and note it on the sheet.

        `keys` are the event's, where they are known; `named` are records that it is about besides.
        """
        keys = keys_of(company_id, event, policy) if keys is None else keys
        cluster = self._gather(company_id, keys, records_of(company_id, event) if named is None else named)
        decision = correlate(cluster, event, policy)
        if decision.cluster is not cluster or (named is not None and cluster.ids):
            self._put(company_id, cluster, decision.cluster, keys)
        self._note(company_id, decision, partition, at)
        return decision

    def fold_envelope(
        self, envelope: Envelope, event: Event, policy: Policy, keys: list[Key] | None = None
    ) -> Decision:
        """Decide what an envelope's event comes to, and keep the envelope's row."""
        company_id = envelope.company_id or ""
        decision = self.fold(company_id, event, policy, envelope.partition, envelope.received_at, keys)
        self.changes.events.append(_row(company_id, envelope, event, decision, policy))
        return decision

    def records(self) -> list[Record]:
        """Give every record that lies on the desk."""
        return [record for laid in self._records.values() for record in laid]

    def _gather(self, company_id: str, keys: Iterable[Key], records: Iterable[RecordRef]) -> Cluster:
        ids = {found for key in keys if (found := self._clusters.get(key)) is not None}
        ids |= {found for ref in records if (found := self._of_record.get(ref)) is not None}
        if not ids:
            return Cluster(company_id)
        ordered = tuple(sorted(ids))
        if len(ordered) == 1:
            return Cluster(company_id, ordered, self._records.get((company_id, ordered[0]), ()))
        laid = tuple(record for cluster_id in ordered for record in self._records.get((company_id, cluster_id), ()))
        return Cluster(company_id, ordered, laid)

    def _put(self, company_id: str, before: Cluster, after: Cluster, keys: list[Key]) -> None:
        cluster_id = after.ids[0]
        for old in before.ids:
            if old != cluster_id:
                self._merge(company_id, old, cluster_id)
        self._records[(company_id, cluster_id)] = after.records
        for record in after.records:
            self._of_record[(company_id, record.record_id)] = cluster_id
        for key in keys:
            if self._clusters.get(key) != cluster_id:
                self._clusters[key] = cluster_id
                self.changes.keys[key] = cluster_id

    def _merge(self, company_id: str, old: UUID, new: UUID) -> None:
        self.changes.merged.append((company_id, old, new))
        self._records.pop((company_id, old), None)
        for table in (self._clusters, self.changes.keys):
            for key, cluster_id in table.items():
                if cluster_id == old and key[0] == company_id:
                    table[key] = new

    def _note(self, company_id: str, decision: Decision, partition: int, at: datetime) -> None:
        changes = self.changes
        for record in decision.changed:
            changes.records[(company_id, record.record_id)] = (record, partition, at)
        for gone in decision.gone:
            changes.records.pop((company_id, gone.record_id), None)
            self._of_record.pop((company_id, gone.record_id), None)
            changes.gone.append((company_id, gone, at))
        changes.transitions.extend([(company_id, transition) for transition in decision.transitions])
        if decision.flags:
            changes.flags.extend([(flag, partition) for flag in decision.flags])
        if decision.outcome is not None:
            changes.outcomes.append((company_id, decision.outcome))
        for record_id, question in decision.questions:
            changes.questions[(company_id, record_id)] = question


def _follow(moved: Mapping[ClusterRef, UUID], company_id: str, cluster_id: UUID) -> UUID:
    """Say which cluster one is part of by now."""
    while (company_id, cluster_id) in moved:
        cluster_id = moved[(company_id, cluster_id)]
    return cluster_id


def _row(company_id: str, envelope: Envelope, event: Event, decision: Decision, policy: Policy) -> EventRow:
    disposition = "repeat" if decision.repeat else "applied"
    if decision.outcome is not None and not decision.outcome.applied:
        disposition = "refused"
    return EventRow(
        company_id=company_id,
        received_at=envelope.received_at,
        topic=envelope.topic,
        partition=envelope.partition,
        offset=envelope.offset,
        record_id=_record_of(event, decision),
        event_id=event_id(event),
        kind=_kind(event),
        occurred_at=_occurred_at(event),
        disposition=disposition,
        note=note_on(event, policy),
    )


def note_on(event: Event, policy: Policy) -> str | None:
    """Say what is remarkable about the time of an event; what Cal.com's API answered, and commands, have their own."""
    if type(event) is HeardBooking:
        if event.event.trigger == OBSERVED:
            return None
    elif type(event) is not HeardAppointment:
        return None
    took = event.received_at - event.event.occurred_at
    if took <= LATE_AFTER:
        return "clock_ahead" if took < -CLOCK_AHEAD_MAX else None
    if took > CLOCK_BEHIND_MAX:
        return "clock_behind"
    return "late" if took > LATE_AFTER + timedelta(seconds=policy.window_seconds) else None


def _record_of(event: Event, decision: Decision) -> UUID | None:
    """Say which record an event belongs to: the one that holds its side."""
    if type(event) is Commanded:
        return event.command.record_id
    if type(event) is Checked:
        subject = event.answer.subject
        return next((r.record_id for r in decision.cluster.records if subject in names_of(r)), None)
    records = decision.cluster.records
    if len(records) == 1:
        return records[0].record_id
    for record in records:
        if isinstance(event, HeardAppointment):
            if record.appointment and record.appointment.appointment_id == event.event.appointment.id:
                return record.record_id
        elif isinstance(event, HeardBooking):
            wanted = (event.event.uid, event.event.seat)
            if any((side.uid, side.seat) == wanted for side in record.chain):
                return record.record_id
    return None


def names_of(record: Record) -> set[str]:
    """Give the names of a record's sides."""
    names = {name_of(side) for side in record.chain}
    return names | {name_of(record.appointment)} if record.appointment else names


def _kind(event: Event) -> str:
    if type(event) is HeardBooking:
        return event.event.trigger
    if type(event) is Commanded:
        return str(event.command.__struct_config__.tag)
    if type(event) is HeardAppointment:
        return str(event.event.__struct_config__.tag)
    return f"check.{event.answer.verdict}" if type(event) is Checked else "deadline"


def _occurred_at(event: Event) -> datetime | None:
    if type(event) is Commanded:
        return event.command.issued_at
    if type(event) is DeadlineReached or type(event) is PolicyChanged:
        return event.at
    if type(event) is Checked:
        return event.answer.observed_at
    return event.event.occurred_at
