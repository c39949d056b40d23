"""What lies on the disk while the broker is away: a file, a thread that writes it, and what it holds in memory.

Many appends share one fsync: what comes while the disk is busy goes with the next commit.
"""

import asyncio
import errno
import queue
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from schemas.envelope import Delivery
from services.ingest.holdings import Holdings, Lane, to_us
from services.ingest.spool_file import DamagedError, Row, SpoolFile, is_damage, is_full, row_of

T = TypeVar("T")
Home = Callable[[str, str], int]

#: Checking and counting a file of the largest size takes seconds.
OPEN_SECONDS: Final = 60.0
#: A write or a read; the sender is answered 503 when a disk takes longer.
DISK_SECONDS: Final = 2.5
CLOSE_SECONDS: Final = 1.5
#: What may wait for the disk at once.
QUEUE_BYTES: Final = 64 * 1024 * 1024
_MOST_JOBS: Final = 2000
_TIDY_SECONDS: Final = 1.0
CHUNK_ROWS: Final = 500
CHUNK_BYTES: Final = 2 * 1024 * 1024


class SpoolFullError(OSError):
    """There is no room, by the bound or on the disk: nothing of it was kept."""

    def __init__(self, what: str) -> None:
        """`what` is full."""
        super().__init__(errno.ENOSPC, f"the spool is full ({what})")


class SpoolError(OSError):
    """The spool's file could not be written or read."""


class _Job:
    """Something for the thread. `account` counts its outcome, on the loop, before anybody is told."""

    __slots__ = ("account", "do", "done", "rows", "writes")

    def __init__(self, do: Callable[[SpoolFile], Any], *, writes: bool) -> None:
        self.do, self.writes = do, writes
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.account: Callable[[Any, Exception | None], None] | None = None
        self.rows: Sequence[Row] = ()


_Outcome = tuple[_Job, Any, "Exception | None"]


class Spool:
    """One spool. Whatever touches the disk is bounded: it raises TimeoutError after DISK_SECONDS, and may still happen.

    `failing`: the last write did not succeed.
    """

    def __init__(self, file: SpoolFile, max_bytes: int) -> None:
        """Made by `open`."""
        self._file = file
        self.max_bytes = max_bytes
        self.holdings = Holdings()
        self.failing = False
        self._next_seq = 1
        self._queued_bytes = 0
        self._waiting: set[_Job] = set()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)

    @classmethod
    async def open(cls, path: Path, *, door_id: str, max_bytes: int, now: Callable[[], datetime]) -> "Spool":
        """Open a spool, with what it holds. Raises OSError, TimeoutError. `door_id`: of a new one."""
        spool = cls(SpoolFile(path, door_id, now), max_bytes)
        spool._thread.start()
        begun = spool._put(lambda file: (file.begin(), file.last_seq()), writes=False)
        async with asyncio.timeout(OPEN_SECONDS):
            try:
                spool.holdings, last = await begun.done
            except BaseException:
                spool._jobs.put(None)
                raise
        spool._next_seq = last + 1
        return spool

    @property
    def path(self) -> Path:
        """Give where it lies."""
        return self._file.path

    @property
    def door_id(self) -> str:
        """Give the name of the door whose spool it is."""
        return self._file.door_id

    @property
    def takes(self) -> bool:
        """Tell whether it would take a message: there is room, and the last write succeeded."""
        return not self.failing and self.holdings.bytes < self.max_bytes

    def append(self, lane: Lane, deliveries: Sequence[Delivery]) -> "asyncio.Future[None]":
        """Write messages behind all others, all or none; the future is done when the disk has them.

        It fails with SpoolFullError or SpoolError. Raises SpoolFullError at once when the bound is reached.
        """
        rows = [
            row_of(self._next_seq + number, lane, delivery, to_us(delivery.received_at))
            for number, delivery in enumerate(deliveries)
        ]
        size_bytes = sum(row.bytes for row in rows)
        if self.holdings.bytes + size_bytes > self.max_bytes:
            raise SpoolFullError(f"{self.max_bytes} bytes")
        if self._queued_bytes and self._queued_bytes + size_bytes > QUEUE_BYTES:
            raise SpoolFullError("the disk is too slow")
        self._next_seq += len(rows)
        self._queued_bytes += size_bytes
        self._count_in(rows)
        job = self._put(lambda file: file.insert(rows), writes=True, rows=rows)

        def account(_: object, error: Exception | None) -> None:
            if error is not None:
                self._count_out(rows)

        job.account = account
        job.done.add_done_callback(lambda _: self._dequeue(size_bytes))
        return job.done

    async def oldest(self, lane: Lane, rows: int = CHUNK_ROWS, most_bytes: int = CHUNK_BYTES) -> list[Row]:
        """Give the first rows of a lane, as they can be read. A damaged file is set aside, and its rest is read."""
        return await self._ask(lambda file: _checked(file.oldest(lane, rows, most_bytes)))

    async def forget(self, rows: Sequence[Row]) -> None:
        """Remove what the broker has."""
        await self._remove(rows, lambda file: file.delete([row.seq for row in rows]))

    async def refuse(self, row: Row, reason: str) -> None:
        """Lay aside, in the same file, what the broker will never take."""
        await self._remove([row], lambda file: file.refuse(row, reason))

    async def rehome(self, home: Home) -> None:
        """Put every row where it belongs now that `home(topic, company_id)` says so; others may write meanwhile."""
        last: int | None = 0
        while last is not None:
            after = last
            last, moved = await self._ask(lambda file, after=after: file.rehome(after, home), writes=True)  # type: ignore[misc]
            self.holdings.move(moved)

    async def probe(self) -> None:
        """Write something, to see whether that works again. Raises OSError."""
        await self._ask(lambda file: file.touch(), writes=True)

    async def close(self, *, remove: bool = False) -> None:
        """Finish what waits and close the file, within CLOSE_SECONDS; remove it if wanted."""
        ended = self._put(lambda file: file.remove() if remove else file.close(), writes=False)
        self._jobs.put(None)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await ended.done

    async def _remove(self, rows: Sequence[Row], do: Callable[[SpoolFile], list[int]]) -> None:
        by_seq = {row.seq: row for row in rows}

        def account(gone: list[int] | None, _: Exception | None) -> None:
            self._count_out([by_seq[seq] for seq in gone or ()])

        job = self._put(do, writes=True)
        job.account = account
        await _in_time(job.done)

    async def _ask(self, do: Callable[[SpoolFile], T], *, writes: bool = False) -> T:
        answered: T = await _in_time(self._put(do, writes=writes).done)
        return answered

    def _put(self, do: Callable[[SpoolFile], Any], *, writes: bool, rows: Sequence[Row] = ()) -> _Job:
        job = _Job(do, writes=writes)
        job.rows = rows
        self._waiting.add(job)
        self._jobs.put(job)
        return job

    def _count_in(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.holdings.add(row.lane, row.received_us, row.bytes)

    def _count_out(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.holdings.remove(row.lane, row.received_us, row.bytes)

    def _dequeue(self, size_bytes: int) -> None:
        self._queued_bytes -= size_bytes

    def _settle(self, outcomes: list[_Outcome], found: Holdings | None) -> None:
        """On the loop: count what has happened, then tell. `found`: what a file holds that was begun in between."""
        self._waiting.difference_update(job for job, _, _ in outcomes)
        if found is not None:
            self.holdings = found
            for waiting in self._waiting:
                self._count_in(waiting.rows)
        for job, result, error in outcomes:
            if job.account and found is None:
                job.account(result, error)
            if job.writes:
                self.failing = error is not None and not isinstance(error, SpoolFullError)
            if job.done.done():
                continue
            if error is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(error)

    def _work(self) -> None:
        """Be the thread."""
        untidy = True
        while True:
            try:
                jobs = self._next_jobs(_TIDY_SECONDS if untidy else None)
            except queue.Empty:
                untidy = self._tidy()
                continue
            outcomes, found = self._do([job for job in jobs if job is not None])
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self._loop.call_soon_threadsafe(self._settle, outcomes, found)
            if None in jobs:
                with suppress(sqlite3.Error):
                    self._file.close()
                return
            untidy = True

    def _next_jobs(self, seconds: float | None) -> list[_Job | None]:
        jobs = [self._jobs.get(timeout=seconds)]
        with suppress(queue.Empty):
            while len(jobs) < _MOST_JOBS:
                jobs.append(self._jobs.get_nowait())
        return jobs

    def _tidy(self) -> bool:
        try:
            return self._file.tidy()
        except (sqlite3.Error, OSError):
            return False

    def _do(self, jobs: list[_Job]) -> tuple[list[_Outcome], Holdings | None]:
        """Do the writes in one commit, then the reads; with a damaged file, again on a fresh one."""
        try:
            return self._attempt(jobs), None
        except (sqlite3.Error, OSError, DamagedError, msgspec.DecodeError) as error:
            if not is_damage(error):
                return [(job, None, _told(error)) for job in jobs], None
            try:
                self._file.set_aside(error)
                return self._attempt(jobs), self._file.holdings()
            except (sqlite3.Error, OSError, DamagedError) as again:
                return [(job, None, _told(again)) for job in jobs], None

    def _attempt(self, jobs: list[_Job]) -> list[_Outcome]:
        writes = [job for job in jobs if job.writes]
        results = self._file.commit([job.do for job in writes]) if writes else []
        outcomes: list[_Outcome] = [(job, result, None) for job, result in zip(writes, results, strict=True)]
        return outcomes + [(job, job.do(self._file), None) for job in jobs if not job.writes]


def _checked(rows: list[Row]) -> list[Row]:
    """Give rows that are as they were written. Raises DamagedError."""
    for row in rows:
        try:
            _ = row.delivery
        except msgspec.DecodeError as error:
            raise DamagedError(f"message {row.seq}: {error}") from None
    return rows


def _told(error: Exception) -> Exception:
    return SpoolFullError("the disk") if is_full(error) else SpoolError(f"{type(error).__name__}: {error}")


def _in_time(done: "asyncio.Future[T]") -> Coroutine[Any, Any, T]:
    """Await it within DISK_SECONDS; the work itself goes on, and is counted when it ends."""
    return asyncio.wait_for(asyncio.shield(done), DISK_SECONDS)
