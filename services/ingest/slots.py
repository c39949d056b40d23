"""Several ingest processes on one machine never share a file: each holds the lock of a slot, and the kernel ends it."""

import fcntl
import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

MOST_SLOTS: Final = 1000
_FILE: Final = re.compile(r"^ingest-(\d+)\.sqlite$")


class Slot(Struct, frozen=True):
    """A slot that is ours until `release` or the end of the process. Lock files stay: their removal would be a race."""

    number: int
    path: Path
    descriptor: int

    def release(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def take(directory: Path) -> Slot:
    """Take the first free slot. Raises OSError."""
    for number in range(MOST_SLOTS):
        slot = _take(directory, number)
        if slot is not None:
            return slot
    raise OSError(f"all {MOST_SLOTS} slots are taken")


def deserted(directory: Path) -> list[Slot]:
    """Take every slot that has a file and no process. Raises OSError."""
    numbers = sorted(int(match[1]) for match in map(_FILE.match, os.listdir(directory)) if match)
    slots = [_take(directory, number) for number in numbers]
    return [slot for slot in slots if slot is not None]


def _take(directory: Path, number: int) -> Slot | None:
    lock = directory / f"ingest-{number}.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Slot(number, directory / f"ingest-{number}.sqlite", descriptor)
