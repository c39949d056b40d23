"""Kafka is away and ingest goes on, time-boxed: scenario 49. `python -m tests.faults.outage` is the long run."""

from typing import Final

import httpx
import msgspec
import pytest

from schemas.flags import Flag
from tests.faults.outage import kafka_away, one_cut_off
from tests.faults.scene import PARTITIONS, Scene
from tests.support.kafka_server import KafkaServer
from tests.support.load import Case, Side, on_partition
from tests.support.mute_proxy import MuteProxy
from tests.support.senders import Senders
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

COMPANY: Final = on_partition(0, PARTITIONS)
SILENCE_SECONDS: Final = 5.0


async def test_while_kafka_is_away_everything_is_taken_and_afterwards_nothing_is_lost_or_flagged_falsely(
    fragile: Scene, fragile_kafka: KafkaServer
) -> None:
    figures = await kafka_away(fragile, fragile_kafka, seconds=15, rate=500)
    print(figures)  # noqa: T201
    assert figures.requests > 15 * 500 * 0.7
    assert figures.held > 0, "decisions came due while Kafka was away"


async def test_while_one_ingest_is_cut_off_and_all_else_is_not_decisions_wait_for_what_it_holds(
    fragile: Scene, wire: MuteProxy, by_wire: dict[str, object]
) -> None:
    figures = await one_cut_off(fragile, wire, by_wire, seconds=10, rate=100, window_seconds=3)
    print(figures)  # noqa: T201
    assert figures.held > 100, "one side of them was read, the other lay in the spool"


async def test_a_door_that_died_holds_decisions_for_a_while_and_the_flags_made_then_say_so(
    fragile: Scene, wire: MuteProxy, by_wire: dict[str, object]
) -> None:
    senders = Senders(await fragile.company(COMPANY, window_seconds=1))
    fragile.start("reconciler", door_silence_seconds=SILENCE_SECONDS)
    dying = fragile.start("ingest", **by_wire)
    other = fragile.start("ingest", ingest_spool_dir=str(fragile.folder / "another machine"))
    lost, orphan = Case(COMPANY, 1), Case(COMPANY, 2, Side.APP)
    async with httpx.AsyncClient(base_url=await dying.as_usual()) as client:
        await wire.cut()
        assert (await senders.booking(client, lost)).status_code == httpx.codes.ACCEPTED
    await _reported(fragile)
    dying.kill()
    died_at = fragile.now()
    async with httpx.AsyncClient(base_url=await other.as_usual()) as client:
        for case in (lost, orphan):
            assert (await senders.appointment(client, case)).status_code == httpx.codes.ACCEPTED
    await fragile.held()
    assert not await fragile.flags()
    await fragile.flagged(COMPANY, SILENCE_SECONDS + 30)

    async def both() -> list[Flag]:
        flags = [msgspec.json.decode(row["body"], type=Flag) for row in await fragile.flags()]
        return flags if len(flags) == 2 else []

    flags = await until(both, 10)
    name = await fragile.pool.fetchval("SELECT door_id FROM doors WHERE oldest_unsent_at IS NOT NULL")
    assert [flag.why.silent_doors for flag in flags] == [(name,)] * 2
    assert min((flag.decided_at - died_at).total_seconds() for flag in flags) > SILENCE_SECONDS - 3
    await wire.heal()
    fragile.start("ingest", **by_wire)
    await fragile.drained()
    view = await fragile.holds()
    assert {flag.why.silent_doors for flag in view.of_records.values()} == {(name,)}
    assert len(view.resolved) == 1, "what had lain in its spool came at last"


async def _reported(fragile: Scene) -> None:
    """Wait until the door has said to all that it holds something."""

    async def said() -> bool:
        return bool(await fragile.pool.fetchval("SELECT count(*) FROM doors WHERE spool_messages = 1"))

    await until(said, 10)
