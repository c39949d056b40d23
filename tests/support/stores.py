"""Stores as the contract suite sees them: the port, and what was written behind it."""

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

import msgspec

from schemas.commands import CommandOutcome
from schemas.envelope import Delivery
from schemas.flags import Flag
from schemas.verification import PRIORITIES, Question
from services.plumbing.postgres import Pool
from services.reconciler import rows
from services.reconciler.core.events import Event
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.desk import Desk, keys_of, records_of
from services.reconciler.ports import Changes, RecordRef, Store
from services.reconciler.store import PostgresStore
from tests.support.history import NOW, POLICY
from tests.support.memory import MemoryStore

#: (topic, partition, offset, disposition)
EventPlace = tuple[str, int, int, str]


class Written(Protocol):
    """What lies in a store, read past its port."""

    @property
    def store(self) -> Store:
        """Give the store itself."""
        ...

    async def records(self) -> dict[RecordRef, Record]:
        """Give every record."""
        ...

    async def aliases(self) -> dict[RecordRef, UUID]:
        """Give what became of records that are part of others now."""
        ...

    async def flags(self) -> dict[UUID, bool]:
        """Give every flag that was raised, and whether it has ended."""
        ...

    async def queued(self) -> list[str]:
        """Give the ids of what is to be told, in order."""
        ...

    async def outcomes(self) -> dict[tuple[str, str], CommandOutcome]:
        """Give what became of commands, by company and command id."""
        ...

    async def events(self) -> list[EventPlace]:
        """Give where the events lie that were seen, and what they did."""
        ...

    async def transitions(self) -> int:
        """Count the changes that were noted."""
        ...

    async def dead(self) -> list[tuple[str, int, int, str, bytes]]:
        """Give topic, partition, offset, reason and body of what could not be understood."""
        ...

    async def reroutes(self) -> list[Delivery]:
        """Give what is to be sent on, in order."""
        ...

    async def incidents(self) -> dict[tuple[str, str], tuple[str, int]]:
        """Give detail and count by company and kind."""
        ...

    async def questions(self) -> dict[RecordRef, Question]:
        """Give what Cal.com is to be asked, by record."""
        ...


class InMemory:
    """A memory store."""

    def __init__(self) -> None:
        """Empty."""
        self.store = MemoryStore()

    async def records(self) -> dict[RecordRef, Record]:
        """See `Written`."""
        return {ref: record for ref, (record, _) in self.store.records.items()}

    async def aliases(self) -> dict[RecordRef, UUID]:
        """See `Written`."""
        return dict(self.store.aliases)

    async def flags(self) -> dict[UUID, bool]:
        """See `Written`."""
        return {flag_id: (company, flag_id) in self.store.resolved for company, flag_id in self.store.flags}

    async def queued(self) -> list[str]:
        """See `Written`."""
        return [str(flag.id) for flag in self.store.outbox]

    async def outcomes(self) -> dict[tuple[str, str], CommandOutcome]:
        """See `Written`."""
        return {ref: found for ref, found in self.store.outcomes.items() if isinstance(found, CommandOutcome)}

    async def events(self) -> list[EventPlace]:
        """See `Written`."""
        return [(e.topic, e.partition, e.offset, e.disposition) for e in self.store.events]

    async def transitions(self) -> int:
        """See `Written`."""
        return len(self.store.transitions)

    async def dead(self) -> list[tuple[str, int, int, str, bytes]]:
        """See `Written`."""
        return [(*place, row.letter.reason, row.body) for place, row in self.store.dead.items()]

    async def reroutes(self) -> list[Delivery]:
        """See `Written`."""
        return [rows.sent_on(envelope) for envelope in self.store.reroutes]

    async def incidents(self) -> dict[tuple[str, str], tuple[str, int]]:
        """See `Written`."""
        return {ref: (found.detail, found.seen) for ref, found in self.store.incidents.items()}

    async def questions(self) -> dict[RecordRef, Question]:
        """See `Written`."""
        return dict(self.store.questions)


class InPostgres:
    """A store in PostgreSQL."""

    def __init__(self, pool: Pool) -> None:
        """The pool stays its owner's."""
        self.store = PostgresStore(pool)
        self.pool = pool

    async def records(self) -> dict[RecordRef, Record]:
        """See `Written`."""
        found = await self.pool.fetch("SELECT company_id, record_id, facts, decision FROM records")
        return {(c, record_id): rows.read(c, facts, decision) for c, record_id, facts, decision in found}

    async def aliases(self) -> dict[RecordRef, UUID]:
        """See `Written`."""
        found = await self.pool.fetch("SELECT company_id, record_id, merged_into FROM record_aliases")
        return {(company, record_id): into for company, record_id, into in found}

    async def flags(self) -> dict[UUID, bool]:
        """See `Written`; the body must be the flag that the columns say."""
        found = await self.pool.fetch("SELECT flag_id, body, resolved_at, resolved_by FROM flags")
        assert all(msgspec.json.decode(row["body"], type=Flag).id == row["flag_id"] for row in found)
        assert all((row["resolved_at"] is None) is (row["resolved_by"] is None) for row in found)
        return {row["flag_id"]: row["resolved_at"] is not None for row in found}

    async def queued(self) -> list[str]:
        """See `Written`."""
        found = await self.pool.fetch("SELECT ce_id FROM outbox WHERE topic = 'sync.flags.v1' ORDER BY outbox_id")
        return [row["ce_id"] for row in found]

    async def outcomes(self) -> dict[tuple[str, str], CommandOutcome]:
        """See `Written`."""
        names = CommandOutcome.__struct_fields__
        found = await self.pool.fetch(f"SELECT company_id, {', '.join(names)} FROM command_outcomes")
        return {
            (row["company_id"], row["command_id"]): CommandOutcome(**{name: row[name] for name in names})
            for row in found
        }

    async def events(self) -> list[EventPlace]:
        """See `Written`."""
        found = await self.pool.fetch(
            "SELECT topic, kafka_partition, kafka_offset, disposition FROM events ORDER BY topic, kafka_offset"
        )
        return [tuple(row) for row in found]

    async def transitions(self) -> int:
        """See `Written`."""
        return int(await self.pool.fetchval("SELECT count(*) FROM transitions"))

    async def dead(self) -> list[tuple[str, int, int, str, bytes]]:
        """See `Written`."""
        return [
            tuple(row)
            for row in await self.pool.fetch(
                "SELECT topic, kafka_partition, kafka_offset, reason, body FROM dead_letters"
            )
        ]

    async def reroutes(self) -> list[Delivery]:
        """See `Written`."""
        names = ", ".join(Delivery.__struct_fields__)
        found = await self.pool.fetch(f"SELECT {names} FROM outbox WHERE received_at IS NOT NULL ORDER BY outbox_id")
        return [Delivery(**row) for row in found]

    async def incidents(self) -> dict[tuple[str, str], tuple[str, int]]:
        """See `Written`."""
        found = await self.pool.fetch("SELECT * FROM incidents")
        assert all(row["opened_at"] <= row["last_seen_at"] for row in found)
        return {(row["company_id"], row["kind"]): (row["detail"], row["seen"]) for row in found}

    async def questions(self) -> dict[RecordRef, Question]:
        """See `Written`; the columns must be what the question says."""
        found = await self.pool.fetch("SELECT * FROM verifications")
        asked = {
            (row["company_id"], row["record_id"]): msgspec.json.decode(row["question"], type=Question) for row in found
        }
        for row in found:
            question = asked[(row["company_id"], row["record_id"])]
            told = (question.number, PRIORITIES.index(question.priority), question.starts_at, question.not_before)
            assert (row["number"], row["priority"], row["starts_at"], row["not_before"]) == told
        return asked


class Teller:
    """Loads, decides and saves as the worker does, an event a transaction, under an epoch."""

    def __init__(self, store: Store, epoch: int, *, company_id: str = "acme", partition: int = 0) -> None:
        """The epoch must have been claimed."""
        self.store, self.epoch = store, epoch
        self.company_id, self.partition = company_id, partition

    @classmethod
    async def claim(cls, store: Store, *, company_id: str = "acme", partition: int = 0) -> "Teller":
        """Make a partition ours."""
        claims = await store.claim([partition], owner="teller", at=NOW)
        return cls(store, claims[partition].epoch, company_id=company_id, partition=partition)

    async def sheet(self, *events: Event, policy: Policy = POLICY) -> Changes:
        """Give what events come to, not saved yet."""
        keys = {key for event in events for key in keys_of(self.company_id, event, policy)}
        refs = {ref for event in events for ref in records_of(self.company_id, event)}
        desk = Desk(await self.store.load(keys, refs), self.blank())
        for event in events:
            desk.fold(self.company_id, event, policy, self.partition, NOW)
        return desk.changes

    async def tell(self, *events: Event) -> Changes:
        """Save what events come to, one transaction each; gives the last sheet."""
        changes = self.blank()
        for event in events:
            changes = await self.sheet(event)
            await self.store.save(changes)
        return changes

    async def tell_at_once(self, events: Iterable[Event]) -> Changes:
        """Save what events come to in one transaction."""
        changes = await self.sheet(*events)
        await self.store.save(changes)
        return changes

    def blank(self, **more: Any) -> Changes:
        """Give an empty sheet under our epoch."""
        changes = Changes.begin(NOW, {self.partition: self.epoch})
        for name, value in more.items():
            setattr(changes, name, value)
        return changes
