"""A program that runs beside us and never outlives us."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

from services.embedded import guard

_START_SECONDS: Final = 10.0
#: What comes after the error itself: PostgreSQL's advice, Rust's, Java's stack.
_NOISE: Final = re.compile(r"(HINT|DETAIL): |^note: |^at [\w.$]+\(|^\.\.\. \d+ more")
_NOTHING: Final = "it said nothing"


class ChildError(Exception):
    """A program that did not start or ended too soon: one line, with the last thing that it said."""


class Child:
    """A running program, started through `guard.py`.

    It sees neither our environment nor our terminal (so Ctrl-C reaches us alone) and is told to stop when we end,
    however we end.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", pid: int, log: Path, grace_seconds: float) -> None:
        """Made by `start`."""
        self._guard = process
        self.pid = pid
        self._log = log
        self._grace_seconds = grace_seconds

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        log: Path,
        grace_seconds: float,
        stop_signal: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
        held: Sequence[int] = (),
    ) -> "Child":
        """Start a program, at most 10 s. `held`: file descriptors to keep open until all of it has ended.

        Raises ChildError when it cannot be started.
        """
        guarded = [sys.executable, "-I", "-S", guard.__file__, str(int(stop_signal)), str(grace_seconds), log, *command]
        process = subprocess.Popen(  # noqa: S603 - our own command
            guarded,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C"} | dict(env or {}),
            pass_fds=held,
            start_new_session=True,
        )
        said = _first_line(process)
        child = cls(process, int(said or 0), log, grace_seconds)
        if not said:
            child.stop()
            raise ChildError(f"{command[0]} cannot be started: {child.last_words()}")
        return child

    @property
    def running(self) -> bool:
        """Say whether it, or something that it left behind, is still there."""
        return self._guard.poll() is None

    def stop(self) -> None:
        """Tell it to stop, kill it after its grace; takes at most a second more. Harmless when it has ended."""
        assert self._guard.stdin is not None  # noqa: S101 - a pipe was asked for
        self._guard.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._guard.wait(self._grace_seconds + 1)
        if self.running:
            self._guard.kill()
            self._guard.wait()

    def kill(self) -> None:
        """Kill -9, and wait until nothing of it is left."""
        self.signal(signal.SIGKILL)
        self.stop()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Harmless when it has ended."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self) -> None:
        """Wait until it has ended, and all that it left behind."""
        self._guard.wait()

    def last_words(self) -> str:
        """Give the last line that it said, advice and stacks left out."""
        with suppress(OSError):
            lines = [line.strip() for line in self._log.read_text("utf-8", errors="replace").split("\n")]
            return next((line for line in reversed(lines) if line and not _NOISE.search(line)), _NOTHING)
        return _NOTHING


def _first_line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    with process.stdout as output:
        return output.readline() if wait([output.fileno()], _START_SECONDS) else b""
