"""Kafka is away under load, longer than every window, and ingest is killed in the middle of it (scenario 49).

    python -m tests.faults.outage --seconds 60 --rate 500
    python -m tests.faults.outage --seconds 600 --rate 50 --cut

`--cut`: Kafka is there, but the ingest that takes the webhooks is cut off from it; another one takes the appointments.
Stands up Apache Kafka and PostgreSQL of its own; prints a line of figures, exits 1 with what did not hold.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct

from schemas import topics
from services.embedded.ports import HOST
from tests.faults.scene import Scene, alone
from tests.faults.shift import Shift, shift
from tests.support.kafka_server import KafkaServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import moment

#: Shorter than any outage, longer than a new ingest usually takes to open where the old one was killed.
WINDOW_SECONDS: Final = 5.0
#: The app tells of a booking so much later: at the beginning of an outage many wait for their other side.
LAG_SECONDS: Final = 1.5


class Figures(Struct, kw_only=True):
    """What an outage came to. Latencies are of webhooks answered while Kafka was away, in ms."""

    requests: int
    p50_ms: float
    p99_ms: float
    spooled: int
    held: int
    missed: int
    drained_seconds: float

    def __str__(self) -> str:
        """Give a line to read."""
        per_second = self.spooled / max(self.drained_seconds, 0.001)
        return (
            f"{self.requests} webhooks answered 202 while Kafka was away, p50 {self.p50_ms:.1f} ms, "
            f"p99 {self.p99_ms:.1f} ms, {self.missed} attempts missed around the kill; {self.spooled} messages "
            f"in the spool, {self.held} decisions held; drained {self.drained_seconds:.1f} s after Kafka's return, "
            f"{per_second:.0f}/s beside the load"
        )


async def outage(
    work: Shift,
    *,
    seconds: float,
    go: Callable[[], Awaitable[object]],
    come: Callable[[], Awaitable[object]],
    kill: bool = True,
) -> Figures:
    """Let Kafka go for so long under load, and come back; half-way ingest is killed and started again."""
    loop, stage = asyncio.get_running_loop(), work.stage
    await work.taken(200)
    await stage.applied_beyond(100)
    await go()
    gone_at, killed_at, opened_at = loop.time(), 0.0, 0.0
    await moment(gone_at + seconds / 2)
    if kill:
        work.ingest.kill()
        killed_at = loop.time()
        await work.start_ingest().ready()
        opened_at = loop.time()
    await moment(gone_at + seconds)
    held = await stage.held()
    back_at = loop.time()
    await come()
    spooled, come_at = await stage.spooled(), loop.time()
    await stage.drained(seconds=60 + seconds)
    drained_at = loop.time()
    await work.taken(200)
    await work.sent()
    _all_were_taken(work, killed_at, opened_at)
    answers = work.steady.seconds(topics.CALCOM_BOOKINGS, since=gone_at, until=back_at)
    return Figures(
        requests=len(answers),
        p50_ms=answers[len(answers) // 2] * 1000,
        p99_ms=answers[int(len(answers) * 0.99)] * 1000,
        spooled=spooled,
        held=held,
        missed=len(work.steady.unanswered_at) + len(work.steady.refused),
        drained_seconds=drained_at - come_at,
    )


def _all_were_taken(work: Shift, killed_at: float, opened_at: float) -> None:
    """Check that each answer was 202, but for those, and those that never came, from the kill until it was ready."""
    missed = [refusal.at for refusal in work.steady.refused] + work.steady.unanswered_at
    wrong = [at - killed_at for at in missed if not killed_at - 1 < at < opened_at + 0.5]
    assert not wrong, f"{len(wrong)} not taken, the first {wrong[0]:.1f} s after the kill: {work.steady.refused[:3]}"


async def kafka_away(stage: Scene, kafka: KafkaServer, *, seconds: float, rate: float) -> Figures:
    """Kill Kafka for so long; everything holds."""
    async with shift(stage, window_seconds=WINDOW_SECONDS, per_second=rate, lag_seconds=LAG_SECONDS) as work:
        figures = await outage(
            work,
            seconds=seconds,
            go=lambda: asyncio.to_thread(kafka.kill),
            come=lambda: asyncio.to_thread(kafka.start),
        )
        await work.holds(seconds=120 + seconds)
        return figures


async def one_cut_off(
    stage: Scene, wire: TcpProxy, by_wire: dict[str, object], *, seconds: float, rate: float, window_seconds: float
) -> Figures:
    """Cut the ingest that takes the webhooks off from Kafka; the one that takes the appointments is not."""
    other = stage.start("ingest", ingest_spool_dir=str(stage.folder / "another machine"))
    lag_seconds = window_seconds / 4
    async with shift(
        stage, window_seconds=window_seconds, per_second=rate, lag_seconds=lag_seconds, ingest=by_wire, sending=False
    ) as work:
        work.appointments_at(int((await other.as_usual()).rpartition(":")[2]))
        work.send()
        figures = await outage(work, seconds=seconds, go=wire.cut, come=wire.heal, kill=False)
        await work.holds(seconds=120 + seconds)
        assert other.running
        return figures


async def run(seconds: float, rate: float, folder: Path, *, cut: bool) -> str:
    """Stand up what is needed, take Kafka away, check; gives a line to read. Raises AssertionError."""
    async with alone(folder) as (stage, server):
        if not cut:
            return f"held: {await kafka_away(stage, server, seconds=seconds, rate=rate)}"
        async with TcpProxy(HOST, server.wire_port, port=server.wire_advertised_port) as wire:
            by_wire: dict[str, object] = {"kafka_bootstrap_servers": f"{HOST}:{wire.port}"}
            figures = await one_cut_off(stage, wire, by_wire, seconds=seconds, rate=rate, window_seconds=WINDOW_SECONDS)
            return f"held: {figures}"


def main(arguments: list[str]) -> int:
    """Take Kafka away from the command line."""
    parser = argparse.ArgumentParser(prog="tests.faults.outage", description="Kafka is away under load")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=500, help="webhooks a second; as many appointments beside them")
    parser.add_argument("--cut", action="store_true", help="cut one ingest off instead")
    given = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="reconcal-outage-") as folder:
        sys.stdout.write(asyncio.run(run(given.seconds, given.rate, Path(folder), cut=given.cut)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
