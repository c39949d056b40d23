"""Cutting a history into batches changes nothing, nor does deciding on one before the one before it is stored."""

import asyncio
import itertools
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from services.reconciler.core.events import Heard
from services.reconciler.core.record import Record
from services.reconciler.desk import Desk, keys_of
from services.reconciler.ports import Changes, Key
from tests.support.history import NOW, POLICY, fold
from tests.support.letters import histories
from tests.support.memory import MemoryStore

CUTS = st.lists(st.integers(1, 9), max_size=5)


def batches(history: list[Heard], cuts: list[int]) -> list[list[Heard]]:
    places = sorted({0, len(history), *(cut for cut in cuts if cut < len(history))})
    return [history[start:end] for start, end in itertools.pairwise(places)]


def sides(records: list[Record]) -> set[tuple[object, ...]]:
    return {(r.record_id, r.appointment, r.chain, r.rule, r.finding, r.status, r.deadline_at) for r in records}


async def play(history: list[Heard], cuts: list[int], eager: list[bool]) -> MemoryStore:
    """Fold batch by batch; where eager, load before the batch before is stored, else after."""
    store = MemoryStore()
    await store.claim([0], owner="test", at=NOW)
    before: Desk | None = None
    for number, batch in enumerate(batches(history, cuts)):
        keys: set[Key] = {key for event in batch for key in keys_of("acme", event, POLICY)}
        if before and not eager[number % len(eager)]:
            await store.save(before.changes)
        loaded = await store.load(keys)
        if before:
            loaded = before.over(loaded, keys, ())
            if eager[number % len(eager)]:
                await store.save(before.changes)
        before = Desk(loaded, Changes.begin(NOW, {0: 1}))
        for event in batch:
            before.fold("acme", event, POLICY, 0, _received(event))
    if before:
        await store.save(before.changes)
    return store


def _received(event: Heard) -> datetime:
    return event.received_at


@given(histories(12), CUTS, st.lists(st.booleans(), min_size=1, max_size=6))
def test_however_a_history_is_cut_and_stored_the_records_are_the_same(
    history: list[Heard], cuts: list[int], eager: list[bool]
) -> None:
    store = asyncio.run(play(history, cuts, eager))
    stored = [record for record, _ in store.records.values()]
    assert sides(stored) == sides(fold(history).records)
    for record in stored:
        assert store.keys[("acme", f"u:{record.chain[0].uid}")] == record.cluster_id if record.chain else True
