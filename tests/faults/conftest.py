"""What fault tests stand on: a broker for all that leave it alone, and one that may be paused and killed."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.embedded.ports import HOST
from tests.faults.scene import Scene, scene
from tests.support.kafka_jars import NoKafkaError
from tests.support.kafka_server import KafkaServer
from tests.support.mute_proxy import MuteProxy
from tests.support.no_kafka import NO_KAFKA
from tests.support.small_disk import NO_MOUNT, NoMountError, SmallDisk


@pytest.fixture
async def faults(apache_kafka: str, dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Give a scene on the broker that all share."""
    async with scene(apache_kafka, dsn, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def fragile_server() -> Iterator[KafkaServer]:
    """Give a broker that tests may pause and kill."""
    server = KafkaServer()
    try:
        server.start()
    except NoKafkaError as error:
        server.close()
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{NO_KAFKA} ({error})")
    yield server
    server.close()


@pytest.fixture
async def fragile_kafka(fragile_server: KafkaServer) -> AsyncIterator[KafkaServer]:
    """Give it whole, and mend it afterwards."""
    yield fragile_server
    fragile_server.resume()
    if not fragile_server.running:
        await asyncio.to_thread(fragile_server.start)


@pytest.fixture
async def fragile(fragile_kafka: KafkaServer, dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Give a scene on the broker that may be paused and killed."""
    async with scene(fragile_kafka.bootstrap_servers, dsn, tmp_path) as made:
        yield made


@pytest.fixture
async def wire(fragile_kafka: KafkaServer) -> AsyncIterator[MuteProxy]:
    """Give the wire to that broker of those who use `by_wire`: what happens to it happens to them alone."""
    async with MuteProxy(HOST, fragile_kafka.wire_port, port=fragile_kafka.wire_advertised_port) as proxy:
        yield proxy


@pytest.fixture
def by_wire(wire: MuteProxy) -> dict[str, object]:
    """Give the settings of who reaches the broker by the wire."""
    return {"kafka_bootstrap_servers": f"{HOST}:{wire.port}"}


@pytest.fixture
def small_disk() -> Iterator[Callable[..., SmallDisk]]:
    """Give what makes small disks; where none can be mounted the test is skipped, and the summary says so."""
    with ExitStack() as mounted:

        def make(size_bytes: int, *, owner: int = 0) -> SmallDisk:
            try:
                return mounted.enter_context(SmallDisk(size_bytes, owner=owner))
            except NoMountError as error:
                pytest.skip(str(error))

        yield make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly, once, that no disk was full."""
    skipped = [report for report in terminalreporter.getreports("skipped") if NO_MOUNT in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"NOT RUN: {len(skipped)} tests on a full disk ({NO_MOUNT})", red=True, bold=True)
