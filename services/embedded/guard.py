"""A program of its own: runs one command, and ends it when whoever started it is gone, even by kill -9.

    python -I -S guard.py STOP_SIGNAL GRACE_SECONDS LOG COMMAND...

Standard input is the lifeline: nobody writes to it; when it closes, the command is told to stop and, after the grace,
killed. The command's process id is the only line on standard output. What the command says goes to LOG, of which the
newest one to two MiB are kept. It ends when the command *and all that it left behind* have ended, as they hold the
pipe that they speak into: whoever then starts the same command anew meets no remains of the old one.
"""

import ctypes
import math
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

LOG_BYTES = 1024 * 1024
_PR_SET_PDEATHSIG = 1


class Log:
    """A file that is moved to `<name>.1` when it is full."""

    def __init__(self, path: Path) -> None:
        """Open it; what is there stays."""
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, said: bytes) -> None:
        """Keep it. A full disk loses what was said, nothing else."""
        with suppress(OSError):
            if self._file.tell() + len(said) > LOG_BYTES:
                self._path.replace(f"{self._path}.1")
                self._file.close()
                self._file = self._path.open("wb", buffering=0)
            self._file.write(said)


def main(arguments: list[str]) -> int:
    """Run the command; gives its exit code, 127 where it could not be started."""
    os.umask(0o077)
    stop_signal, grace_seconds, path, *command = arguments
    log = Log(Path(path))
    try:
        child = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_us if sys.platform == "linux" else None,  # noqa: PLW1509 - there is one thread here
        )
    except OSError as error:
        log.write(f"{command[0]}: {error.strerror}\n".encode())
        return 127
    print(child.pid, flush=True)  # noqa: T201 - this is how we speak
    _watch(child, log, int(stop_signal), float(grace_seconds))
    return child.wait() % 256


def _watch(child: "subprocess.Popen[bytes]", log: Log, stop_signal: int, grace_seconds: float) -> None:
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    lifeline, output = sys.stdin.fileno(), child.stdout.fileno()
    watched, seconds, deadline = [lifeline, output], None, math.inf
    while True:
        ready, _, _ = select.select(watched, [], [], seconds)
        if output in ready:
            said = os.read(output, 65536)
            if not said:
                return
            log.write(said)
        if lifeline in ready:
            child.send_signal(stop_signal)
            watched, deadline = [output], time.monotonic() + grace_seconds
        if lifeline not in watched:
            seconds = max(0.0, deadline - time.monotonic())
            if not seconds:
                child.kill()
                seconds, deadline = 1.0, time.monotonic() + 1.0


def _end_with_us() -> None:
    """On Linux even our own kill -9 takes the command along."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
