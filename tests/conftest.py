"""What holds for every test: its folder says what it may touch; chance is the same in CI every time."""

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from tests.support.no_kafka import NO_KAFKA
from tests.support.no_mailpit import NO_MAILPIT

pytest_plugins = ["tests.support.stand"]

TESTS: Final = Path(__file__).parent
MARKED: Final = ("integration", "e2e", "faults")
NO_SOCKETS: Final = ("unit", "property", "contract", "sim")

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder; those of pure logic get no sockets."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in NO_SOCKETS:
            item.add_marker(pytest.mark.disable_socket)
        elif folder in MARKED:
            item.add_marker(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly, once each, that nothing ran on Apache Kafka or on Mailpit."""
    for reason, name in ((f"{NO_KAFKA}). `make kafka` says why.", "Apache Kafka"), (f"{NO_MAILPIT}).", "Mailpit")):
        sought = reason.partition(")")[0]
        skipped = [report for report in terminalreporter.getreports("skipped") if sought in str(report.longrepr)]
        if skipped:
            said = f"NOT RUN: {len(skipped)} tests on {name}, for there is none ({reason}"
            terminalreporter.write_line(said, red=True, bold=True)
