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
#: Most messages are smaller.
_USUAL_BYTES: Final = 4096
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
        self.done.add_done_callback(_seen)
        self.account: Callable[[Any, Exception | None], None] | None = None
        self.rows: Sequence[Row] = ()


def _seen(done: "asyncio.Future[Any]") -> None:
    """Take note of an error: whoever waited may have given up."""
    if not done.cancelled():
        done.exception()


_Outcome = tuple[_Job, Any, "Exception | None"]


class Spool:
    """One spool. Whatever touches the disk is bounded: it raises TimeoutError after DISK_SECONDS, and may still happen.

    `failing`: the last write did not succeed, and no `probe` since.
    """

    def __init__(self, file: SpoolFile, max_bytes: int) -> None:
        """Made by `open`."""
        self._file = file
        self.max_bytes = max_bytes
        self.holdings = Holdings()
        self.failing = False
        self._next_seq = 1
        self._queued_bytes = self._refused_bytes = 0
        self._full = False  # the thread's: the disk is full, nothing more is written
        self._recount = False  # the thread's: a file was begun since it was last counted
        self._waiting: set[_Job] = set()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)

    @classmethod
    async def open(cls, path: Path, *, max_bytes: int, now: Callable[[], datetime]) -> "Spool":
        """Open a spool, with what it holds. Raises OSError, TimeoutError."""
        spool = cls(SpoolFile(path, now), max_bytes)
        spool._thread.start()
        begun = spool._put(spool._begin, writes=False)
        async with asyncio.timeout(OPEN_SECONDS):
            try:
                spool.holdings, last, spool._refused_bytes = await begun.done
            except BaseException:
                spool._jobs.put(None)
                raise
        spool._next_seq = last + 1
        return spool

    @property
    def path(self) -> Path:
        """Give where it lies."""
        return self._file.path

    def was_damaged(self) -> bool:
        """Tell whether, since this was asked last, the file was damaged: nobody knows all that had lain in it."""
        damaged, self._file.damaged = self._file.damaged, False
        return damaged

    @property
    def takes(self) -> bool:
        """Tell whether it would take a message as they usually are: there is room, and the last write succeeded."""
        return not self.failing and self._kept_bytes + _USUAL_BYTES <= self.max_bytes

    @property
    def _kept_bytes(self) -> int:
        return self.holdings.bytes + self._refused_bytes

    def append(self, lane: Lane, deliveries: Sequence[Delivery]) -> "asyncio.Future[None]":
        """Write messages behind all others, all or none; the future is done when the disk has them.

        It fails with SpoolFullError or SpoolError. Raises SpoolFullError at once when the bound is reached.
        """
        rows = [
            row_of(self._next_seq + number, lane, delivery, to_us(delivery.received_at))
            for number, delivery in enumerate(deliveries)
        ]
        size_bytes = sum(row.size_bytes for row in rows)
        if self._kept_bytes + size_bytes > self.max_bytes:
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

    async def forget(self, rows: Sequence[Row], counted: Callable[[], None] = lambda: None) -> None:
        """Remove what the broker has. `counted` is called in the same moment as they count no more."""
        await self._remove(rows, lambda file: file.delete([row.seq for row in rows]), counted)

    async def refuse(self, row: Row, reason: str) -> None:
        """Lay aside, in the same file, what the broker will never take."""
        await self._remove([row], lambda file: file.refuse(row, reason), lambda: None)
        self._refused_bytes += len(row.packed)

    async def rehome(self, home: Home) -> None:
        """Put every row where it belongs now that `home(topic, company_id)` says so; others may write meanwhile."""
        last: int | None = 0
        while last is not None:
            after = last
            last, moved = await self._ask(lambda file, after=after: file.rehome(after, home), writes=True)  # type: ignore[misc]
            self.holdings.move(moved)

    async def probe(self) -> None:
        """See whether it can be written again. Raises OSError."""
        await self._ask(self._probe)
        self.failing = False

    async def close(self, *, remove: bool = False) -> None:
        """Finish what waits and close the file, within CLOSE_SECONDS; remove it if wanted."""
        ended = self._put(lambda file: file.remove() if remove else file.close(), writes=False)
        self._jobs.put(None)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await ended.done

    async def _remove(
        self, rows: Sequence[Row], do: Callable[[SpoolFile], list[int]], counted: Callable[[], None]
    ) -> None:
        by_seq = {row.seq: row for row in rows}

        def account(gone: list[int] | None, _: Exception | None) -> None:
            self._count_out([by_seq[seq] for seq in gone or ()])
            counted()

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
            self.holdings.add(row.lane, row.received_us, row.size_bytes)

    def _count_out(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.holdings.remove(row.lane, row.received_us, row.size_bytes)

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
                self.failing = error is not None or (self.failing and not job.rows)
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
        """Do what is wanted; what a damaged file or a full disk kept from being done, once more after the remedy."""
        try:
            return self._attempt(jobs)
        except Exception as error:  # noqa: BLE001 - whoever waits is told; without its thread a spool is nothing
            trouble = error
        try:
            self._remedy(trouble)
            return self._attempt(jobs)
        except Exception as error:  # noqa: BLE001 - as above
            return [(job, None, _told(error)) for job in jobs], None

    def _remedy(self, error: Exception) -> None:
        """Begin a fresh file in place of a damaged one; on a full disk make room for removing, and take no more."""
        if is_damage(error):
            self._recount = True
            self._file.set_aside(error)
        elif is_full(error):
            self._full = True
            self._file.let_go()
        else:
            raise error

    def _attempt(self, jobs: list[_Job]) -> tuple[list[_Outcome], Holdings | None]:
        full = self._full
        writes = [job for job in jobs if job.writes and not (full and job.rows)]
        results = self._file.commit([job.do for job in writes]) if writes else []
        outcomes: list[_Outcome] = [(job, result, None) for job, result in zip(writes, results, strict=True)]
        outcomes += [self._read(job) for job in jobs if not job.writes]
        outcomes += [(job, None, SpoolFullError("the disk")) for job in jobs if full and job.rows]
        if not self._recount:
            return outcomes, None
        found = self._file.holdings()
        self._recount = False
        return outcomes, found

    def _read(self, job: _Job) -> _Outcome:
        """Do what changes nothing that is counted; it fails alone, but for damage, which concerns all."""
        try:
            return job, job.do(self._file), None
        except Exception as error:
            if is_damage(error):
                raise
            return job, None, _told(error)

    def _begin(self, file: SpoolFile) -> "tuple[Holdings, int, int]":
        found = file.begin()
        try:
            file.hold_back()
        except OSError as error:
            if not is_full(error):
                raise
            self._full = True
        return found, file.last_seq(), file.refused_bytes()

    def _probe(self, file: SpoolFile) -> None:
        if self._full:
            file.regain()
            self._full = False
        else:
            file.commit([SpoolFile.touch])


def _checked(rows: list[Row]) -> list[Row]:
    """Give rows that are as they were written. Raises DamagedError."""
    for row in rows:
        try:
            _ = row.delivery
        except msgspec.DecodeError as error:
            raise DamagedError(f"message {row.seq}: {error}") from None
    return rows


def _told(error: Exception) -> Exception:
    if is_full(error):
        return SpoolFullError("the disk")
    ours = not isinstance(error, (sqlite3.Error, OSError, DamagedError))
    return error if ours else SpoolError(f"{type(error).__name__}: {error}")


def _in_time(done: "asyncio.Future[T]") -> Coroutine[Any, Any, T]:
    """Await it within DISK_SECONDS; the work itself goes on, and is counted when it ends."""
    return asyncio.wait_for(asyncio.shield(done), DISK_SECONDS)
