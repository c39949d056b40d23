"""Where a running `reconcal up` is to be found: a file in its data directory, and a pointer in the user's own."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.plumbing.secrets import new_key

STATE: Final = "stack.json"
KEY: Final = "secret.key"
_LOCK: Final = "stack.lock"
#: Somebody who only looks whether a stack runs holds the lock for an instant.
_LOCK_WAIT_SECONDS: Final = 1.0


class StackError(Exception):
    """Which stack is meant cannot be told, or it cannot be started here: one line that says why."""


class NotReady(Exception):  # noqa: N818 - a state
    """A part of a stack did not answer as it should in time: one line that says which."""


class StackState(Struct, frozen=True, kw_only=True):
    """What another command needs to reach a running stack: settings by name, addresses as `up --json` prints them."""

    pid: int
    settings: dict[str, Any]
    addresses: dict[str, str | None]


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Give the data directory of a user who names none: `$XDG_DATA_HOME/reconcal`, or the like of it."""
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path(environ.get("HOME") or Path.home()) / ".local" / "share") / "reconcal"


@contextmanager
def running(data_dir: Path, pointers: Path) -> Iterator[None]:
    """Hold a data directory for one stack. Raises StackError when another one holds it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    pointer = pointers / "running" / hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:16]
    try:
        if not _locked(lock):
            raise StackError(f"{data_dir}: another `reconcal up` is running on this data directory")
        (data_dir / STATE).unlink(missing_ok=True)
        with suppress(OSError):  # a home that cannot be written to only makes this stack harder to find
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.write_text(f"{data_dir.resolve()}\n")
        yield
        (data_dir / STATE).unlink(missing_ok=True)
        pointer.unlink(missing_ok=True)
    finally:
        os.close(lock)


def write(data_dir: Path, state: StackState) -> None:
    """Say where everything is; only the owner may read it."""
    _write_private(data_dir / STATE, msgspec.json.format(msgspec.json.encode(state), indent=2))


def read(data_dir: Path) -> StackState | None:
    """Give the stack that runs on a data directory now; None: none does."""
    try:
        lock = os.open(data_dir / _LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((data_dir / STATE).read_bytes(), type=StackState)
    finally:
        os.close(lock)
    return None


def elsewhere(pointers: Path) -> dict[Path, StackState]:
    """Give the stacks that this user runs, by data directory."""
    found: dict[Path, StackState] = {}
    with suppress(OSError):
        for pointer in sorted((pointers / "running").iterdir()):
            data_dir = Path(pointer.read_text().strip())
            if not data_dir.is_dir():
                pointer.unlink(missing_ok=True)  # left behind by a kill -9
            elif (state := read(data_dir)) is not None:
                found[data_dir] = state
    return found


def stored_key(data_dir: Path) -> str | None:
    """Give the secret key that was made for a data directory."""
    try:
        return (data_dir / KEY).read_text().strip() or None
    except FileNotFoundError:
        return None


def ensure_key(data_dir: Path) -> str:
    """Give the data directory's secret key; makes it when there is none. Readable by the owner only."""
    known = stored_key(data_dir)
    if known is not None:
        return known
    data_dir.mkdir(parents=True, exist_ok=True)
    key = new_key()
    _write_private(data_dir / KEY, f"{key}\n".encode())
    return key


def _locked(lock: int) -> bool:
    until = monotonic() + _LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > until:
                return False
            sleep(0.02)
        else:
            return True


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that appears whole, and was never readable to others."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
