"""The spool: real files, a broker of lists. What was promised is on the disk or the log, in order, whatever happens."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Delivery
from services.ingest import slots
from services.ingest.drainer import Drainer, Held, open_spool
from services.ingest.holdings import Holdings
from services.ingest.keeper import Broker, KafkaKeeper, Unsent
from services.ingest.reports import Report
from services.ingest.spool import Spool, SpoolFullError
from services.ingest.spool_file import SpoolFile
from services.ingest.spooling import SpoolKeeper
from services.plumbing.clock import WallClock
from services.plumbing.lanes import partition_of
from services.plumbing.lifecycle import PASSING
from services.plumbing.settings import SettingsError, load
from tests.support.keeper import MemorySender, MoodySender
from tests.support.spool_child import delivery
from tests.support.wait import until

ROOT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 3
COUNTS: Final = dict.fromkeys(topics.SIDES, PARTITIONS)
LANE: Final = (topics.CALCOM_BOOKINGS, 0)
AT: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SOON_SECONDS: Final = 0.05
COMPANIES: Final = ("acme", "bern", "cork", "delft")


def now() -> datetime:
    return datetime.now(UTC)


def some(count: int, company_id: str = "acme", first: int = 0) -> list[Delivery]:
    return [delivery(f"{company_id}-{number}", company_id) for number in range(first, first + count)]


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """Give the ids, each where it is first."""
    return list(dict.fromkeys(one.ce_id for one in deliveries))


def lane_of(one: Delivery) -> tuple[str, int]:
    return (one.topic, partition_of(one.company_id, PARTITIONS))


@asynccontextmanager
async def opened(path: Path, *, max_bytes: int = 1 << 30) -> AsyncIterator[Spool]:
    spool = await Spool.open(path, max_bytes=max_bytes, now=now)
    try:
        yield spool
    finally:
        await spool.close()


async def held(spool: Spool) -> list[Delivery]:
    """Read everything, lane by lane."""
    return [row.delivery for lane in list(spool.holdings.lanes) for row in await spool.oldest(lane, 10_000, 1 << 30)]


# --- the file --------------------------------------------------------------------------------------------------------


async def test_what_was_appended_is_there_after_a_restart_whole_and_in_order(tmp_path: Path) -> None:
    path, sent = tmp_path / "spool", [replace(one, body=b"\xff\x00 \r\n") for one in some(50)]
    async with opened(path) as spool:
        await asyncio.gather(*(spool.append(LANE, [one]) for one in sent))
        counted = (spool.holdings.messages, spool.holdings.bytes, spool.holdings.oldest_at)
    async with opened(path) as spool:
        assert await held(spool) == sent
        assert (spool.holdings.messages, spool.holdings.bytes, spool.holdings.oldest_at) == counted
        assert counted[2] == sent[0].received_at
        assert path.stat().st_mode & 0o077 == 0, "others may not read what patients book"


async def test_what_is_forgotten_is_gone_and_counts_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.append(LANE, some(10))
        await spool.forget((await spool.oldest(LANE))[:4])
        assert ids(await held(spool)) == [f"acme-{number}" for number in range(4, 10)]
        await spool.forget(await spool.oldest(LANE))
        await spool.forget([])
        assert (spool.holdings.messages, spool.holdings.bytes, spool.holdings.lanes) == (0, 0, {})
        assert spool.holdings.oldest_at is None


async def test_many_appends_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "spool") as spool:
        commits: list[int] = []
        real = spool._file.commit

        def commit(changes: Sequence[Callable[[SpoolFile], object]]) -> list[object]:
            commits.append(len(changes))
            return real(changes)

        monkeypatch.setattr(spool._file, "commit", commit)
        await asyncio.gather(*(spool.append(LANE, [one]) for one in some(500)))
        assert sum(commits) == 500
        assert len(commits) < 50


async def test_over_its_bound_it_takes_nothing_of_a_request_and_again_when_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool", max_bytes=8000) as spool:
        await spool.append(LANE, [replace(delivery("a"), body=bytes(3000))])
        with pytest.raises(SpoolFullError):
            spool.append(LANE, [delivery("b"), replace(delivery("c"), body=bytes(6000))])
        assert ids(await held(spool)) == ["a"]
        await spool.forget(await spool.oldest(LANE))
        await spool.append(LANE, [replace(delivery("d"), body=bytes(3000))])
        assert ids(await held(spool)) == ["d"]
        assert spool.takes


async def test_on_a_full_disk_nothing_is_half_kept(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.append(LANE, some(3))
        await spool._ask(lambda file: file.connection.execute("PRAGMA max_page_count = 30").fetchall())
        before = (spool.holdings.messages, spool.holdings.bytes)
        large = [replace(one, body=bytes(60_000)) for one in some(3, first=3)]
        with pytest.raises(SpoolFullError):
            await spool.append(LANE, large)
        assert (spool.holdings.messages, spool.holdings.bytes) == before
        assert ids(await held(spool)) == ["acme-0", "acme-1", "acme-2"]
        await spool._ask(lambda file: file.connection.execute("PRAGMA max_page_count = 100000").fetchall())
        full = not spool.takes
        await spool.probe()
        assert full
        assert spool.takes
        await spool.append(LANE, large)
        assert len(await held(spool)) == 6


def test_a_disk_that_fails_is_said_and_a_probe_tells_when_it_works_again(tmp_path: Path) -> None:
    """In a process of its own, which may write no file beyond a size."""
    script = f"""
import asyncio, resource
from pathlib import Path
from services.ingest.spool import SpoolError
from tests.unit.test_ingest_spool import *
async def run():
    async with opened(Path({str(tmp_path / "spool")!r})) as spool:
        await spool.append(LANE, some(3))
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(SpoolError):
            await spool.append(LANE, [replace(one, body=bytes(60_000)) for one in some(3, first=3)])
        assert not spool.takes
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await spool.probe()
        assert spool.takes
        assert len(await held(spool)) == spool.holdings.messages == 3
asyncio.run(run())
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr.decode()


# --- damage ----------------------------------------------------------------------------------------------------------


async def fill(path: Path, count: int = 400) -> list[Delivery]:
    sent = [replace(one, body=os.urandom(1500)) for one in some(count)]
    async with opened(path) as spool:
        await spool.append(LANE, sent)
    return sent


def aside(path: Path) -> list[Path]:
    return [one for one in path.parent.glob(f"{path.name}.damaged-*") if not one.name.endswith(("-wal", "-shm"))]


def overwrite(path: Path, start: float, end: float) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * start))
        file.write(os.urandom(int(size * (end - start))))


async def test_a_damaged_file_is_set_aside_and_what_can_be_read_of_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spool"
    sent = await fill(path)
    overwrite(path, 0.5, 0.6)
    before = path.read_bytes()
    async with opened(path) as spool:
        [kept] = aside(path)
        assert kept.read_bytes() == before, "it is evidence"
        saved = await held(spool)
        assert 0 < len(saved) < len(sent)
        assert [one for one in sent if one in saved] == saved, "unaltered and in order"
        assert len(saved) >= 0.5 * len(sent)
        assert spool.holdings.messages == len(saved)
        await spool.append(LANE, [delivery("new")])
    said = "".join(capsys.readouterr())
    assert "ingest.spool_damaged" in said
    assert "ingest.spool_saved" in said


@pytest.mark.parametrize("how", ["truncated", "no database", "header"])
async def test_a_file_that_is_no_spool_any_more_is_set_aside_and_a_fresh_one_begun(tmp_path: Path, how: str) -> None:
    path = tmp_path / "spool"
    await fill(path)
    if how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "no database":
        path.write_bytes(b"not a database, not at all" * 1000)
    else:
        overwrite(path, 0, 0.01)
    async with opened(path) as spool:
        assert len(aside(path)) == 1
        await spool.append(LANE, [delivery("new")])
        assert ids(await held(spool))[-1] == "new"


async def test_a_file_that_is_damaged_while_it_is_open_is_set_aside_and_the_next_append_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    async with opened(path) as spool:
        sent = [replace(one, body=os.urandom(1500)) for one in some(400)]
        await spool.append(LANE, sent)
        await spool._ask(lambda file: file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        await spool._ask(lambda file: file.connection.execute("PRAGMA shrink_memory").fetchall())
        overwrite(path, 0.05, 0.95)
        waiting = [spool.append(LANE, [one]) for one in some(20, first=1000)]
        rows = await spool.oldest(LANE, 10_000, 1 << 30)
        await asyncio.gather(*waiting)
        found = await held(spool)
        assert len(aside(path)) == 1
        assert ids(found)[-20:] == [f"acme-{number}" for number in range(1000, 1020)]
        assert all(one in sent for one in found[:-20]), "nothing that is not as it was written"
        assert spool.holdings.messages == len(found)
        assert len(rows) >= len(found) - 20


async def test_a_message_that_was_altered_on_the_disk_is_never_given(tmp_path: Path) -> None:
    """SQLite has no checksums of its own: it reads altered bytes as if nothing were."""
    path = tmp_path / "spool"
    await fill(path, 10)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE spooled SET delivery = zeroblob(length(delivery)) WHERE seq = 5")
    connection.commit()
    connection.close()
    async with opened(path) as spool:
        assert ids([row.delivery for row in await spool.oldest(LANE)]) == [f"acme-{n}" for n in range(10) if n != 4]
        assert len(aside(path)) == 1
        assert spool.holdings.messages == 9


def test_what_was_promised_is_there_after_kill_9(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.spool_child", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        promised = [child.stdout.readline().decode().strip() for _ in range(2000)]
        child.send_signal(signal.SIGKILL)
        promised += [line.decode().strip() for line in child.stdout if line.endswith(b"\n")]

    async def look() -> list[Delivery]:
        [slot] = slots.deserted(tmp_path)
        async with opened(slot.path) as spool:
            found = await held(spool)
        slot.release()
        return found

    found = asyncio.run(look())
    assert set(promised) - {one.ce_id for one in found} == set()
    assert all(one.body == b"x" * 1500 for one in found)
    for sender in range(20):
        mine = [one.ce_id for one in found if one.ce_id.startswith(f"{sender}-")]
        assert mine == [f"{sender}-{number}" for number in range(len(mine))]


# --- slots -----------------------------------------------------------------------------------------------------------


async def test_each_process_has_a_file_of_its_own_and_one_that_was_left_is_taken_again(tmp_path: Path) -> None:
    settings = load({"RECONCAL_INGEST_SPOOL_DIR": str(tmp_path / "deep" / "spools")})
    first, second = await open_spool(settings, now), await open_spool(settings, now)
    assert [slot.path.name for slot, _ in (first, second)] == ["ingest-0.sqlite", "ingest-1.sqlite"]
    names = [slot.door_id for slot, _ in (first, second)]
    assert len(set(names)) == 2
    assert slots.deserted(tmp_path / "deep" / "spools") == []
    await first[1].close()
    first[0].release()
    again = await open_spool(settings, now)
    assert (again[0].path, again[0].door_id) == (first[0].path, names[0]), "a door keeps its name"
    for slot, spool in (again, second):
        await spool.close()
        slot.release()


async def test_a_door_whose_spool_was_lost_goes_by_another_name(tmp_path: Path) -> None:
    """Nobody can close the old one's row: decisions wait for it as for any that fell silent, and then say so."""
    settings = load({"RECONCAL_INGEST_SPOOL_DIR": str(tmp_path)})
    names = []
    for _ in range(3):
        slot, spool = await open_spool(settings, now)
        names.append(slot.door_id)
        await spool.close()
        slot.release()
        if len(names) == 1:
            slot.path.write_bytes(b"no spool any more" * 100)
    assert names[0] != names[1] == names[2]


async def test_a_directory_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="RECONCAL_INGEST_SPOOL_DIR: .*file/spool: Not a directory"):
        await open_spool(load({"RECONCAL_INGEST_SPOOL_DIR": str(tmp_path / "file" / "spool")}), now)


# --- the keeper ------------------------------------------------------------------------------------------------------


class Stage:
    """A keeper with its spool and drainer, and a broker of lists that was not reached yet."""

    def __init__(self, own: Held, after_seconds: float) -> None:
        self.own, self.spool = own, own[1]
        self.broker = Broker()
        self.keeper = SpoolKeeper(self.broker, self.spool, after_seconds)
        self.report = Report(own[0].door_id, self.keeper.unsent, WallClock())
        self.drainer = Drainer(self.keeper, self.broker, own, self.report, seconds=SOON_SECONDS, now=now)
        self.closed = asyncio.Event()
        self.draining: asyncio.Task[None] | None = None

    def drain(self) -> None:
        self.draining = asyncio.ensure_future(self.drainer.run(self.closed, lambda: 0.2))

    async def drained(self) -> None:
        async def empty() -> bool:
            assert self.draining is not None
            if self.draining.done():
                self.draining.result()
            return self.keeper.unsent() == Unsent()

        await until(empty, 10)

    async def send(self, *deliveries: Delivery) -> list[str]:
        """Send, each by itself, in this order; gives the ids of what was refused."""
        results = await asyncio.gather(*(self.keeper.keep([one]) for one in deliveries), return_exceptions=True)
        assert all(result is None or isinstance(result, PASSING) for result in results), results
        return [one.ce_id for one, result in zip(deliveries, results, strict=True) if result is not None]


@asynccontextmanager
async def staged(directory: Path, *, after_seconds: float = SOON_SECONDS, **other: object) -> AsyncIterator[Stage]:
    environ = {"ingest_spool_dir": str(directory)} | {name: str(value) for name, value in other.items()}
    settings = load({f"RECONCAL_{name.upper()}": value for name, value in environ.items()})
    stage = Stage(await open_spool(settings, now), after_seconds)
    await stage.drainer.adopt()
    try:
        yield stage
    finally:
        stage.closed.set()
        if stage.draining is not None:
            await stage.draining
        await stage.drainer.close()


async def test_while_the_broker_acknowledges_nothing_touches_the_disk(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        sender = MemorySender(lane_of)
        stage.broker.use(sender, COUNTS)
        sent = [one for company in COMPANIES for one in some(20, company)]
        assert await stage.send(*sent) == []
        assert sorted(sender.log, key=sent.index) == sent
        assert stage.keeper.unsent() == Unsent()
        assert stage.spool._next_seq == 1


async def test_before_a_broker_was_ever_reached_everything_is_kept_and_then_sent_in_order(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.drain()
        first = [one for number in range(20) for company in COMPANIES for one in some(1, company, number)]
        assert await stage.send(*first) == []
        assert stage.keeper.unsent().messages == 80
        assert stage.keeper.unsent().oldest_at == first[0].received_at
        assert stage.keeper.trouble is None
        sender = MemorySender(lane_of)
        stage.broker.use(sender, COUNTS)
        later = [one for company in COMPANIES for one in some(20, company, 20)]
        assert await stage.send(*later) == []
        await stage.drained()
        for company in COMPANIES:
            assert [i for i in ids(sender.log) if i.startswith(company)] == [f"{company}-{n}" for n in range(40)]
        assert len(sender.log) == 160, "nothing twice"


async def test_what_the_broker_is_silent_about_is_kept_in_time_and_what_comes_meanwhile_behind_it(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        sender = MemorySender(lane_of)
        sender.stalled = True
        stage.broker.use(sender, COUNTS)
        assert await stage.send(*some(10)) == []
        assert stage.broker.doubt.is_set()
        began = asyncio.get_running_loop().time()
        assert await stage.send(*some(10, first=10)) == []
        assert asyncio.get_running_loop().time() - began < SOON_SECONDS, "while it is known to be away nobody waits"
        assert ids(await held(stage.spool)) == [f"acme-{number}" for number in range(20)]
        sender.recover()
        assert sender.log == [], "nobody waits for what lies in its lane"
        stage.drain()
        await stage.drained()
        assert [one.ce_id for one in sender.log] == [f"acme-{number}" for number in range(20)]


async def test_a_failure_sends_everything_that_is_pending_of_its_partition_to_the_spool(tmp_path: Path) -> None:
    async with staged(tmp_path, after_seconds=30) as stage:
        sender = MemorySender(lane_of)
        sender.stalled = True
        stage.broker.use(sender, COUNTS)
        pending = asyncio.ensure_future(stage.send(*some(5)))
        await asyncio.sleep(0)
        sender.stalled, sender.error = False, KafkaConnectionError("away")
        sender.work(lane_of(delivery("x")))
        assert await pending == []
        assert ids(await held(stage.spool)) == [f"acme-{number}" for number in range(5)]


async def test_a_request_of_many_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    async with staged(tmp_path, ingest_spool_max_bytes=20_000) as stage:
        await stage.keeper.keep(some(20))
        with pytest.raises(SpoolFullError):
            await stage.keeper.keep(some(60, first=20))
        assert stage.keeper.unsent().messages == 20
        assert len(stage.keeper._pending) == 0
        assert stage.keeper.trouble is None, "there is room for less"


async def test_with_a_full_spool_and_no_broker_it_takes_nothing_and_says_why(tmp_path: Path) -> None:
    async with staged(tmp_path, ingest_spool_max_bytes=1) as stage:
        stage.spool.max_bytes = 0
        assert await stage.send(*some(2)) == ["acme-0", "acme-1"]
        assert stage.keeper.trouble == "not reached yet"
        assert stage.drainer.detail() is not None
        sender = MemorySender(lane_of)
        stage.broker.use(sender, COUNTS)
        assert await stage.send(*some(2)) == []
        assert stage.keeper.trouble is None


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_broker_does_nothing_is_lost_and_nothing_overtakes(tmp_path: Path, seed: int) -> None:
    """Batches that are written, refused, written without an answer or late; a client that is replaced; by a seed."""
    random = Random(seed)
    async with staged(tmp_path, after_seconds=0.02) as stage:
        stage.drain()
        sender = MoodySender(random, lane_of)
        stage.broker.use(sender, COUNTS)
        numbers = dict.fromkeys(COMPANIES, 0)
        sending = []
        for _ in range(150):
            company = random.choice(COMPANIES)
            count = random.choice((1, 1, 1, 3))
            request = some(count, company, numbers[company])
            numbers[company] += count
            sending.append(asyncio.ensure_future(stage.keeper.keep(request)))
            await asyncio.sleep(random.choice((0, 0, 0, 0.003)))
            if random.random() < 0.1:
                stage.broker.answered()
            if random.random() < 0.02:
                stage.broker.use(None)
                await asyncio.sleep(0.01)
                stage.broker.use(sender, dict(COUNTS))
        sender.well = True
        assert set(await asyncio.gather(*sending)) == {None}
        await stage.drained()
        for company in COMPANIES:
            found = [i for i in ids(sender.log) if i.startswith(company)]
            assert found == [f"{company}-{number}" for number in range(numbers[company])]


async def test_under_a_steady_stream_the_spool_empties_and_messages_go_straight_again(tmp_path: Path) -> None:
    """Without waiting for a moment in which nothing comes."""
    async with staged(tmp_path) as stage:
        sender = MemorySender(lane_of)
        sender.stalled = True
        stage.broker.use(sender, COUNTS)
        await stage.send(*some(2000))
        stage.drain()
        sender.recover()
        number = 2000

        async def straight() -> bool:
            nonlocal number
            for _ in range(50):
                await stage.keeper.keep(some(1, first=number))
                number += 1
            return stage.keeper.unsent().messages == 0

        await until(straight, 10)
        seq = stage.spool._next_seq
        await stage.send(*some(10, first=number))
        assert stage.spool._next_seq == seq
        assert ids(sender.log) == [f"acme-{n}" for n in range(number + 10)]


async def test_it_drains_ten_times_as_fast_as_500_a_second_arrive(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await asyncio.gather(
            *(stage.keeper.keep(some(500, company, n)) for company in COMPANIES for n in (0, 500, 1000))
        )
        sender = MemorySender(lane_of)
        began = asyncio.get_running_loop().time()
        stage.broker.use(sender, COUNTS)
        stage.drain()
        await stage.drained()
        assert len(ids(sender.log)) == 6000
        assert 6000 / (asyncio.get_running_loop().time() - began) > 5000


async def test_what_the_broker_will_never_take_is_laid_aside_and_holds_up_nobody(tmp_path: Path) -> None:
    class Narrow(MemorySender):
        def work(self, lane: object) -> None:
            waiting = [one for one in self._waiting.pop(lane, []) if not one[1].done()]
            large = any(len(one.body) > 1000 for one, _ in waiting)
            for one, sending in waiting:
                if large:
                    sending.set_exception(MessageSizeTooLargeError())
                else:
                    self.log.append(one)
                    sending.set_result(None)

    async with staged(tmp_path) as stage:
        sender = Narrow(lane_of)
        stage.broker.use(sender, COUNTS)
        stage.drain()
        messages = [replace(one, body=bytes(2000 if number == 7 else 10)) for number, one in enumerate(some(20))]
        assert await stage.send(*messages) == [], "it is on the disk: Cal.com would not send it again"
        await stage.drained()
        assert ids(sender.log) == [f"acme-{number}" for number in range(20) if number != 7]
        path = stage.spool.path
    [(ce_id, reason)] = sqlite3.connect(path).execute("SELECT ce_id, reason FROM refused").fetchall()
    assert ce_id == "acme-7"
    assert "MessageSizeTooLarge" in reason


async def test_what_others_left_behind_goes_first_and_their_files_are_removed(tmp_path: Path) -> None:
    async with staged(tmp_path) as left, staged(tmp_path) as other:
        await left.send(*some(5))
        await other.send(*some(5, first=5))
    names = [left.own[0].door_id, other.own[0].door_id]
    async with staged(tmp_path) as stage:
        assert stage.own[0].door_id == names[0]
        assert stage.report.gone == {names[1]}
        assert stage.keeper.unsent().messages == 10
        sender = MemorySender(lane_of)
        stage.broker.use(sender, COUNTS)
        assert await stage.send(*some(5, first=10)) == []
        assert sender.log == [], "what is newer waits"
        stage.drain()
        await stage.drained()
        assert sorted(ids(sender.log)) == sorted(f"acme-{number}" for number in range(15))
        assert ids(sender.log)[10:] == [f"acme-{number}" for number in range(10, 15)]
        assert other.own[0].path.exists(), "until our report counts in what it held"
        stage.report.gone.clear()

        async def gone() -> bool:
            return not other.own[0].path.exists()

        await until(gone, 5)


async def test_more_partitions_than_before_change_nothing_about_a_companys_order(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.broker.use(None, COUNTS)
        await stage.send(*(one for company in COMPANIES for one in some(5, company)))
    async with staged(tmp_path) as stage:
        many = partial(partition_of, partitions=7)
        sender = MemorySender(lambda one: many(one.company_id))
        stage.broker.use(sender, dict.fromkeys(topics.SIDES, 7))
        await stage.send(*(one for company in COMPANIES for one in some(5, company, 5)))
        stage.drain()
        await stage.drained()
        for company in COMPANIES:
            assert [i for i in ids(sender.log) if i.startswith(company)] == [f"{company}-{n}" for n in range(10)]


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_no_report_overlooks_what_was_accepted_before_it(tmp_path: Path) -> None:
    """Registered before the first await, and counted until the broker has it: in memory, on the disk, adopted."""
    async with staged(tmp_path, after_seconds=30) as stage:
        sender = MemorySender(lane_of)
        sender.stalled = True
        stage.broker.use(sender, COUNTS)
        first, second = replace(delivery("a"), received_at=AT), replace(delivery("b"), received_at=AT + timedelta(1))
        coroutine = stage.keeper.keep([first])
        waiting = coroutine.send(None)
        assert stage.keeper.unsent() == Unsent(AT)
        coroutine.close()
        assert stage.keeper.unsent() == Unsent(AT), "its sender went away: the broker has it not yet, for all that"
        assert waiting is not None
        sender.recover()
        await asyncio.sleep(0)
        assert stage.keeper.unsent() == Unsent()
        stage.broker.doubt.set()
        await stage.keeper.keep([second])
        assert stage.keeper.unsent().oldest_at == second.received_at


async def test_without_a_spool_what_is_refused_counts_no_more() -> None:
    broker, sender = Broker(), MemorySender()
    keeper = KafkaKeeper(broker, SOON_SECONDS)
    sender.stalled = True
    broker.use(sender, COUNTS)
    sending = asyncio.ensure_future(keeper.keep([replace(delivery("a"), received_at=AT)]))
    await asyncio.sleep(0)
    assert keeper.unsent() == Unsent(AT)
    with pytest.raises(TimeoutError):
        await sending
    assert keeper.unsent() == Unsent()
    assert keeper.trouble == "the broker did not acknowledge"


def test_the_oldest_is_never_later_than_the_truth() -> None:
    random, holdings, there = Random(7), Holdings(), [*range(0)]
    for _ in range(2000):
        if there and random.random() < 0.5:
            gone = there.pop(random.randrange(len(there)))
            holdings.remove(LANE, gone, 10)
        else:
            there.append(random.randrange(20_000_000))
            holdings.add(LANE, there[-1], 10)
        oldest_at = holdings.oldest_at
        assert (oldest_at is None) is (not there)
        if oldest_at is not None:
            early = timedelta(microseconds=min(there)) - (oldest_at - datetime(1970, 1, 1, tzinfo=UTC))
            assert timedelta(0) <= early < timedelta(seconds=1)
    assert holdings.messages == len(there)
