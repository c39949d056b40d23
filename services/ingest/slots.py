"""Several ingest processes on one machine never share a file: each holds the lock of a slot, and the kernel ends it."""

import fcntl
import os
import re
import socket
from pathlib import Path
from secrets import token_hex
from typing import Final

from msgspec import Struct

MOST_SLOTS: Final = 1000
_LONGEST_NAME: Final = 8192
_FILE: Final = re.compile(r"^ingest-(\d+)\.sqlite$")


class Slot(Struct, frozen=True):
    """A slot that is ours until `release` or the end of the process. Lock files stay: their removal would be a race.

    `door_id` names the door that has the slot; it stands in the lock file and lasts.
    """

    number: int
    path: Path
    door_id: str
    descriptor: int

    def renamed(self) -> "Slot":
        """Give the door another name: what it last said under the old one, nobody can stand for any more."""
        os.ftruncate(self.descriptor, 0)
        return Slot(self.number, self.path, _door_id(self.descriptor, self.path), self.descriptor)

    def release(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def take(directory: Path) -> Slot:
    """Take the first free slot of a directory, which is made if need be. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(MOST_SLOTS):
        slot = _take(directory, number)
        if slot is not None:
            return slot
    raise OSError(f"all {MOST_SLOTS} slots are taken")


def deserted(directory: Path) -> list[Slot]:
    """Take every slot that has a file and no process. Raises OSError."""
    numbers = sorted(int(match[1]) for match in (_FILE.match(path.name) for path in directory.iterdir()) if match)
    slots = [_take(directory, number) for number in numbers]
    return [slot for slot in slots if slot is not None]


def _take(directory: Path, number: int) -> Slot | None:
    lock = directory / f"ingest-{number}.lock"
    path = directory / f"ingest-{number}.sqlite"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Slot(number, path, _door_id(descriptor, path), descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise


def _door_id(descriptor: int, path: Path) -> str:
    """Read the name of a slot's door; a new one gets a name.

    Its random end tells machines apart that call themselves and their directories alike, as containers do.
    """
    known = os.pread(descriptor, _LONGEST_NAME, 0).decode("utf-8", errors="replace").strip()
    if known:
        return known
    made = f"{socket.gethostname()}:{path.absolute()}:{token_hex(4)}"
    os.pwrite(descriptor, made.encode(), 0)
    return made
