"""The machine that figures come from, and what processes took of it."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import psutil


def described() -> str:
    """Say where this runs, in one line: figures of a machine that others use, too, are to be read with care."""
    return (
        f"{os.cpu_count()} cores ({_model()}), {psutil.virtual_memory().total / 2**30:.1f} GiB,"
        f" {platform.system()}, Python {platform.python_version()}, load {load()}"
    )


def load() -> str:
    """Give the load average of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def cpu_seconds(pid: int) -> float:
    """Give the processor time of a process, its children, and those of them that have ended."""
    root = psutil.Process(pid)
    return sum(_spent(process) for process in (root, *root.children(recursive=True)))


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """Give the processor time of several, by name."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def _spent(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
