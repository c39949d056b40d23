"""When a company's rules have changed, its records are decided anew, some at a time.

How far a change has come is stored with what it led to, so that whoever owns the company's partition next goes on
there. What is folded meanwhile is folded by the new rules already (`Intake.renew`).
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.reconciler.core.events import Heard, PolicyChanged
from services.reconciler.core.hearsay import own
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.desk import Desk, keys_of
from services.reconciler.ports import Applied, Changes, Key, Loaded, Policies, RecordRef, Store

#: Records of one transaction.
PAGE: Final = 200
BEGINNING: Final = UUID(int=0)


class Job(Struct):
    """A company whose records are not all decided by these rules yet."""

    company_id: str
    policy: Policy
    after: UUID
    open_only: bool  # records of which nothing is wrong stay as they are
    rekey: bool  # people go by other names now: their phone numbers are read in another country


class Sweep:
    """Knows whose rules have changed, and decides their records anew."""

    def __init__(self, store: Store, policies: Policies, home_of: Callable[[str], int]) -> None:
        """`home_of` gives a company's partition."""
        self._store, self._policies, self._home_of = store, policies, home_of
        self._seen: int | None = None
        self._jobs: dict[str, Job] = {}
        self._done: dict[str, Policy] = {}

    def forget(self) -> None:
        """Know nothing: the partitions are others, or what was saved last is not known."""
        self._seen, self._jobs, self._done = None, {}, {}

    def must_work(self) -> bool:
        """Tell whether there may be anything to do."""
        return bool(self._jobs) or self._seen != self._policies.generation

    async def work(self, epochs: Mapping[int, int], at: datetime) -> Changes | None:
        """Do a piece of what there is to do; gives what has to be saved. When that fails, call `forget`."""
        if self._seen != self._policies.generation:
            return await self._look(epochs, at)
        job = next(iter(self._jobs.values()))
        page = await self._store.page(job.company_id, after=job.after, limit=PAGE, open_only=job.open_only)
        number = self._home_of(job.company_id)
        changes = Changes.begin(at, {number: epochs[number]})
        if page.record_ids:
            await self._settle(job, page.record_ids, number, changes)
        changes.applied.append(Applied(job.company_id, job.policy, page.last))
        if page.last is None:
            del self._jobs[job.company_id]
            self._done[job.company_id] = job.policy
        else:
            job.after = page.last
        return changes

    async def _look(self, epochs: Mapping[int, int], at: datetime) -> Changes | None:
        """See whose rules are not those that their records were decided by; who has no records needs no sweep."""
        self._seen = self._policies.generation
        wanted = {
            company_id: policy
            for company_id in self._policies.companies()
            if self._home_of(company_id) in epochs
            and (policy := self._policies.get(company_id)) is not None
            and self._done.get(company_id) != policy
        }
        self._jobs = {}
        known = await self._store.applied(wanted) if wanted else {}
        bare = [company_id for company_id in wanted if company_id not in known]
        full = await self._store.having_records(bare) if bare else set()
        fresh = [Applied(company_id, wanted[company_id], None) for company_id in bare if company_id not in full]
        for company_id, policy in wanted.items():
            before = known.get(company_id)
            if (company_id in bare and company_id not in full) or (before and _is_done(before, policy)):
                self._done[company_id] = policy
            else:
                self._jobs[company_id] = _job(company_id, policy, before)
        if not fresh:
            return None
        changes = Changes.begin(
            at, {self._home_of(one.company_id): epochs[self._home_of(one.company_id)] for one in fresh}
        )
        changes.applied.extend(fresh)
        return changes

    async def _settle(self, job: Job, record_ids: Iterable[UUID], number: int, changes: Changes) -> None:
        refs: list[RecordRef] = [(job.company_id, record_id) for record_id in record_ids]
        loaded = await self._store.load((), refs)
        keys_by: dict[UUID, list[Key]] = {}
        if job.rekey:
            keys_by = _keys(job, loaded)
            loaded = await self._store.load({key for keys in keys_by.values() for key in keys}, refs)
        desk = Desk(loaded, changes)
        event = PolicyChanged(changes.at)
        settled: set[UUID] = set()
        for ref in refs:
            if ref[1] in settled:
                continue
            keys = keys_by.get(ref[1], [])
            decision = desk.fold(job.company_id, event, job.policy, number, changes.at, keys, [ref])
            if not keys:
                settled |= {record.record_id for record in decision.cluster.records}


def _is_done(before: Applied, policy: Policy) -> bool:
    return before.after_record_id is None and before.policy == policy


def _job(company_id: str, policy: Policy, before: Applied | None) -> Job:
    if before is None or before.policy is None:
        return Job(company_id, policy, BEGINNING, open_only=False, rekey=True)
    if before.after_record_id is not None:  # the change before it did not come to its end: nobody knows what it was
        after = before.after_record_id if before.policy == policy else BEGINNING
        return Job(company_id, policy, after, open_only=False, rekey=True)
    old = before.policy
    return Job(company_id, policy, BEGINNING, open_only=_waits_only(old, policy), rekey=old.country != policy.country)


def _waits_only(old: Policy, new: Policy) -> bool:
    """Tell whether nothing but the length of windows has changed, or what comes after them.

    That is nothing to a record that is in order.
    """
    as_before = replace(
        new,
        window_seconds=old.window_seconds,
        settling_window_seconds=old.settling_window_seconds,
        unconfirmed_window_seconds=old.unconfirmed_window_seconds,
        unpaid_window_seconds=old.unpaid_window_seconds,
        verify=old.verify,
        verification_wait_seconds=old.verification_wait_seconds,
    )
    return as_before == old


def _keys(job: Job, loaded: Loaded) -> dict[UUID, list[Key]]:
    """Give the keys that each record's events touch by the new rules."""
    return {
        record.record_id: list(
            {key: None for heard in _heard(record) for key in keys_of(job.company_id, heard, job.policy)}
        )
        for laid in loaded.records.values()
        for record in laid
    }


def _heard(record: Record) -> list[Heard]:
    heard: list[Heard] = list(record.appointment.heard) if record.appointment else []
    for side in record.chain:
        heard.extend(own(side).heard)
    return heard
