"""What fault tests stand on: a broker for all that leave it alone, and one that may be paused and killed."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene, scene
from tests.support.kafka_jars import NoKafkaError
from tests.support.kafka_server import KafkaServer
from tests.support.no_kafka import NO_KAFKA


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
