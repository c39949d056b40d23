"""A spool's file: SQLite, WAL, every commit on the disk before it is one. Blocking; one thread owns it."""

import errno
import os
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from schemas.envelope import Delivery
from services.ingest.holdings import Holdings, Lane
from services.plumbing import telemetry

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS probed (times INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS spooled (
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, company_id TEXT NOT NULL,
  ce_id TEXT NOT NULL, received_us INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL,
  delivery BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS spooled_by_lane ON spooled (topic, partition, seq);
CREATE TABLE IF NOT EXISTS refused (
  seq INTEGER PRIMARY KEY, reason TEXT NOT NULL, topic TEXT NOT NULL, company_id TEXT NOT NULL, ce_id TEXT NOT NULL,
  received_us INTEGER NOT NULL, delivery BLOB NOT NULL);
"""
_COLUMNS: Final = "seq, topic, partition, company_id, ce_id, received_us, bytes, crc, delivery"
_INSERT: Final = f"INSERT OR REPLACE INTO spooled ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_OLDEST: Final = f"SELECT {_COLUMNS} FROM spooled WHERE topic = ? AND partition = ? ORDER BY seq LIMIT ?"  # noqa: S608
_FROM: Final = f"SELECT {_COLUMNS} FROM spooled WHERE seq > ? ORDER BY seq"  # noqa: S608
_REFUSE: Final = """
INSERT OR REPLACE INTO refused
SELECT seq, ?, topic, company_id, ce_id, received_us, delivery FROM spooled WHERE seq = ?"""

#: What a row costs beside its message.
_ROW_BYTES: Final = 160
_CHUNK_ROWS: Final = 500
_TIDY_PAGES: Final = 4000
#: So often what cannot be read is stepped over, each time twice as far.
_MOST_STEPS: Final = 40
_SUFFIXES: Final = ("", "-wal", "-shm")
#: Held back on the disk, so that a full one has room for what removing takes: a WAL of _WAL_PAGES and one change.
BALLAST_BYTES: Final = 4 * 1024 * 1024
_WAL_PAGES: Final = 250
#: SQLite's codes for a file whose content is wrong: CORRUPT and NOTADB.
_DAMAGED: Final = frozenset({11, 26})
_FULL: Final = 13

_pack: Final = msgspec.msgpack.Encoder()
_unpack: Final = msgspec.msgpack.Decoder(Delivery)


class DamagedError(Exception):
    """What is read is not what was written."""


class Row(Struct, frozen=True):
    """A message as it lies in the file. `seq`: the order in which they were accepted."""

    seq: int
    topic: str
    partition: int
    company_id: str
    ce_id: str
    received_us: int
    size_bytes: int
    crc: int
    packed: bytes

    @property
    def lane(self) -> Lane:
        """Give the lane that it goes by."""
        return (self.topic, self.partition)

    @property
    def delivery(self) -> Delivery:
        """Give the message. Raises DamagedError."""
        if zlib.crc32(self.packed) != self.crc:
            raise DamagedError(f"message {self.seq} is not as it was written")
        return _unpack.decode(self.packed)


def row_of(seq: int, lane: Lane, delivery: Delivery, received_us: int) -> Row:
    """Make a row of a message."""
    packed = _pack.encode(delivery)
    size_bytes = len(packed) + _ROW_BYTES
    return Row(
        seq, *lane, delivery.company_id, delivery.ce_id, received_us, size_bytes, zlib.crc32(packed), packed
    )  # fmt: skip


def is_damage(error: BaseException) -> bool:
    """Tell whether the file's content is wrong, rather than that it cannot be reached."""
    return isinstance(error, DamagedError) or _code(error) in _DAMAGED


def is_full(error: BaseException) -> bool:
    """Tell whether there is no room."""
    return _code(error) == _FULL or (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT})


def _code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


class SpoolFile:
    """The file. Errors are sqlite3's, OSError and DamagedError."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        """Nothing is opened yet."""
        self.path, self._now = path, now
        self.damaged = False
        self._opened: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """Give the open file; opens it if need be."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def begin(self) -> Holdings:
        """Open it, check it, and count what it holds. A damaged one is set aside."""
        try:
            with closing(self.connection.execute("PRAGMA quick_check(1)")) as cursor:
                found = cursor.fetchone()[0]
            return self.holdings() if found == "ok" else self._begin_anew(DamagedError(" ".join(str(found).split())))
        except (sqlite3.DatabaseError, DamagedError) as error:
            if not is_damage(error):
                raise
            return self._begin_anew(error)

    def _begin_anew(self, error: Exception) -> Holdings:
        self.set_aside(error)
        return self.holdings()

    def commit(self, changes: "Sequence[Callable[[SpoolFile], object]]") -> list[object]:
        """Make all changes, or none; returns when the disk has them."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [change(self) for change in changes]
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return results

    def insert(self, rows: Sequence[Row]) -> None:
        """Within a commit: add rows."""
        self.connection.executemany(_INSERT, map(msgspec.structs.astuple, rows))

    def delete(self, seqs: Collection[int]) -> list[int]:
        """Within a commit: remove rows; gives those that were there."""
        delete = "DELETE FROM spooled WHERE seq = ?"
        return [seq for seq in seqs if self.connection.execute(delete, (seq,)).rowcount]

    def refuse(self, row: Row, reason: str) -> list[int]:
        """Within a commit: lay a row aside that the broker will never take."""
        self.connection.execute(_REFUSE, (reason, row.seq))
        return self.delete([row.seq])

    def oldest(self, lane: Lane, rows: int, most_bytes: int) -> list[Row]:
        """Give the first rows of a lane, at least one if there is one."""
        found: list[Row] = []
        size_bytes = 0
        with closing(self.connection.execute(_OLDEST, (*lane, rows))) as cursor:
            for values in cursor:
                row = Row(*values)
                size_bytes += row.size_bytes
                if found and size_bytes > most_bytes:
                    break
                found.append(row)
        return found

    def rehome(self, after: int, home: Callable[[str, str], int]) -> tuple[int | None, list[tuple[Lane, Lane]]]:
        """Within a commit: put some rows after a `seq` into the lane where they belong.

        Gives the last `seq` looked at, None at the end, and where rows were moved from and to.
        """
        look = "SELECT seq, topic, partition, company_id FROM spooled WHERE seq > ? ORDER BY seq LIMIT 5000"
        found = self.connection.execute(look, (after,)).fetchall()
        moved: list[tuple[Lane, Lane]] = []
        for seq, topic, partition, company_id in found:
            number = home(topic, company_id)
            if number != partition:
                self.connection.execute("UPDATE spooled SET partition = ? WHERE seq = ?", (number, seq))
                moved.append(((topic, partition), (topic, number)))
        return (found[-1][0] if found else None), moved

    def touch(self) -> None:
        """Within a commit: write something."""
        if self.connection.execute("UPDATE probed SET times = times + 1").rowcount == 0:
            self.connection.execute("INSERT INTO probed VALUES (1)")

    def last_seq(self) -> int:
        """Give the highest `seq`; 0: there is none."""
        last = "SELECT max(coalesce((SELECT max(seq) FROM spooled), 0), coalesce((SELECT max(seq) FROM refused), 0))"
        return int(self.connection.execute(last).fetchone()[0])

    def refused_bytes(self) -> int:
        """Give the size of what was refused."""
        return int(self.connection.execute("SELECT coalesce(sum(length(delivery)), 0) FROM refused").fetchone()[0])

    def holdings(self) -> Holdings:
        """Count what there is."""
        found = Holdings()
        with closing(self.connection.execute("SELECT topic, partition, received_us, bytes FROM spooled")) as cursor:
            for topic, partition, received_us, size_bytes in cursor:
                found.add((topic, partition), received_us, size_bytes)
        return found

    def tidy(self) -> bool:
        """Give some of what is free back to the disk; tells whether there is more."""
        free = self.connection.execute("PRAGMA freelist_count").fetchone()[0]
        if free < _TIDY_PAGES:
            return False
        self.connection.execute(f"PRAGMA incremental_vacuum({_TIDY_PAGES})").fetchall()
        return True

    def hold_back(self) -> None:
        """Keep room on the disk for removing. Raises OSError, also when there is none."""
        ballast = self._beside(".ballast")
        descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        except BaseException:
            ballast.unlink()
            raise
        finally:
            os.close(descriptor)

    def let_go(self) -> None:
        """Use the room that was held back."""
        self._beside(".ballast").unlink(missing_ok=True)

    def regain(self) -> None:
        """Give all that is free back to the disk, and hold room back again. Raises OSError while there is none."""
        self.connection.execute("PRAGMA incremental_vacuum").fetchall()
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.hold_back()

    def close(self) -> None:
        """Close it; what is in the WAL goes into the file."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def remove(self) -> None:
        """Close and remove it; with messages that were refused it is only laid aside: they are for people."""
        refused_bytes = self.refused_bytes()
        self.close()
        if refused_bytes:
            self.path.rename(self._beside(f".refused-{self._now():%Y%m%dT%H%M%S.%fZ}"))
        for suffix in (".ballast", *reversed(_SUFFIXES)):
            self._beside(suffix).unlink(missing_ok=True)

    def set_aside(self, error: BaseException) -> None:
        """Keep a damaged file under another name, begin a fresh one, and save into it what can still be read."""
        with suppress(sqlite3.Error):
            self.close()
        aside = self._beside(f".damaged-{self._now():%Y%m%dT%H%M%S.%fZ}")
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                self._beside(suffix).rename(f"{aside}{suffix}")
        self.damaged = True
        telemetry.spool_damaged.inc()
        telemetry.log().error(telemetry.SPOOL_DAMAGED, path=str(aside), error=str(error)[:200])
        saved, rows = 0, _readable(aside)
        try:
            while chunk := [row for _, row in zip(range(_CHUNK_ROWS), rows, strict=False)]:
                self.commit([lambda file, chunk=chunk: file.insert(chunk)])  # type: ignore[misc]
                saved += len(chunk)
        finally:
            telemetry.log().error(telemetry.SPOOL_SAVED, path=str(aside), messages=saved)

    def _open(self) -> sqlite3.Connection:
        new = not self.path.exists()
        if new:
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=2)
        try:
            if new:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            connection.execute("PRAGMA journal_size_limit = 16777216")
            connection.executescript(_SCHEMA)
            if new:
                _sync(self.path.parent)
        except BaseException:
            connection.close()
            raise
        return connection

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _readable(path: Path) -> Iterator[Row]:
    """Give what can be read of a damaged file, in order; what cannot is stepped over, in growing steps."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return
    last, step, failures = 0, 1, 0
    with closing(connection):
        while failures < _MOST_STEPS:
            try:
                for values in connection.execute(_FROM, (last,)):
                    row = Row(*values)
                    last, step, failures = row.seq, 1, 0
                    if _whole(row):
                        yield row
            except (sqlite3.Error, TypeError, OverflowError):
                last, step, failures = last + step, step * 2, failures + 1
            else:
                return


def _whole(row: Row) -> bool:
    try:
        return row.delivery is not None
    except (DamagedError, msgspec.DecodeError, TypeError):
        return False


def _sync(directory: Path) -> None:
    """Make a new name in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
