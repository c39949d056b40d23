"""A spool's file: SQLite, WAL, every commit on the disk before it is one. Blocking; one thread owns it."""

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
CREATE TABLE IF NOT EXISTS door (door_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spooled (
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, company_id TEXT NOT NULL, ce_id TEXT NOT NULL,
  received_us INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL, delivery BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS spooled_by_lane ON spooled (topic, partition, seq);
CREATE TABLE IF NOT EXISTS refused (
  seq INTEGER PRIMARY KEY, reason TEXT NOT NULL, topic TEXT NOT NULL, company_id TEXT NOT NULL, ce_id TEXT NOT NULL,
  received_us INTEGER NOT NULL, delivery BLOB NOT NULL);
"""
_COLUMNS: Final = "seq, topic, partition, company_id, ce_id, received_us, bytes, crc, delivery"
_INSERT: Final = f"INSERT OR REPLACE INTO spooled ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_OLDEST: Final = f"SELECT {_COLUMNS} FROM spooled WHERE topic = ? AND partition = ? ORDER BY seq LIMIT ?"  # noqa: S608
_FROM: Final = f"SELECT {_COLUMNS} FROM spooled WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_REFUSE: Final = """
INSERT OR REPLACE INTO refused SELECT seq, ?, topic, company_id, ce_id, received_us, delivery FROM spooled WHERE seq = ?"""

#: What a row costs beside its message.
_ROW_BYTES: Final = 160
_CHUNK_ROWS: Final = 500
_TIDY_PAGES: Final = 4000
_SUFFIXES: Final = ("", "-wal", "-shm")
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
    bytes: int
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
    return _code(error) == _FULL


def _code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


class SpoolFile:
    """The file. Errors are sqlite3's, OSError and DamagedError."""

    def __init__(self, path: Path, door_id: str, now: Callable[[], datetime]) -> None:
        """Nothing is opened yet. `door_id`: what the door is called whose file this is, if it does not say so itself."""
        self.path, self.door_id, self._now = path, door_id, now
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
            if found != "ok":
                raise DamagedError(str(found).splitlines()[0])
            return self.holdings()
        except (sqlite3.DatabaseError, DamagedError) as error:
            if not is_damage(error):
                raise
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
                size_bytes += row.bytes
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
        self.connection.execute("UPDATE door SET door_id = door_id")

    def last_seq(self) -> int:
        """Give the highest `seq`; 0: there is none."""
        last = "SELECT max(coalesce((SELECT max(seq) FROM spooled), 0), coalesce((SELECT max(seq) FROM refused), 0))"
        return int(self.connection.execute(last).fetchone()[0])

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

    def close(self) -> None:
        """Close it; what is in the WAL goes into the file."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def remove(self) -> None:
        """Close and remove it."""
        self.close()
        for suffix in reversed(_SUFFIXES):
            self._beside(suffix).unlink(missing_ok=True)

    def set_aside(self, error: BaseException) -> None:
        """Keep a damaged file under another name, begin a fresh one, and save into it what can still be read."""
        with suppress(sqlite3.Error):
            self.close()
        aside = self._beside(f".damaged-{self._now():%Y%m%dT%H%M%S.%fZ}")
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                self._beside(suffix).rename(f"{aside}{suffix}")
        saved = self._save(aside)
        telemetry.spool_damaged.inc()
        telemetry.log().error(telemetry.SPOOL_DAMAGED, path=str(aside), error=str(error)[:200], saved=saved)

    def _save(self, aside: Path) -> int:
        saved, rows = 0, _readable(aside)
        while chunk := [row for _, row in zip(range(_CHUNK_ROWS), rows, strict=False)]:
            self.commit([lambda file, chunk=chunk: file.insert(chunk)])  # type: ignore[misc]
            saved += len(chunk)
        return saved

    def _open(self) -> sqlite3.Connection:
        new = not self.path.exists()
        if new:
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=2)
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 16777216")
            connection.executescript(_SCHEMA)
            known = connection.execute("SELECT door_id FROM door").fetchone()
            if known is None:
                connection.execute("INSERT INTO door VALUES (?)", (self.door_id,))
            else:
                self.door_id = known[0]
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
    with closing(connection):
        last, step, empty = 0, 1, 0
        while empty < _MOST_STEPS:
            try:
                values = connection.execute(_FROM, (last, 1)).fetchone()
                if values is None:
                    return
                row = Row(*values)
                last, step, empty = row.seq, 1, 0
                with suppress(DamagedError, msgspec.DecodeError, TypeError):
                    _ = row.delivery
                    yield row
            except (sqlite3.Error, TypeError, OverflowError):
                last, step, empty = last + step, step * 2, empty + 1


_MOST_STEPS: Final = 40


def _sync(directory: Path) -> None:
    """Make a new name in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
