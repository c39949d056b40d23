"""What tests stand on: brokers, databases and settings. Every test gets topics and a database of its own."""

import asyncio
import atexit
import gc
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from services.embedded.broker import EmbeddedBroker
from services.embedded.database import EmbeddedDatabase
from services.plumbing import kafka
from services.plumbing.migrate import migrate
from services.plumbing.secrets import new_key
from services.plumbing.settings import Settings, load
from tests.support.kafka_source import KafkaSource, find_kafka

PARTITIONS: Final = 3
TEMPLATE: Final = "template_reconcal"


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """Give the embedded broker's bootstrap servers."""
    broker = EmbeddedBroker()
    asyncio.run(broker.start())
    yield broker.bootstrap_servers
    asyncio.run(broker.stop())


@pytest.fixture(scope="session")
def apache_kafka_source() -> Iterator[KafkaSource]:
    """Give an Apache Kafka, with its server where it is ours to kill; without one it fails in CI, else is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker's client leaves its socket open where no engine is
        source = find_kafka()
        gc.collect()
    if source.bootstrap_servers is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(source.reason)
    yield source
    source.close()


@pytest.fixture(scope="session")
def apache_kafka(apache_kafka_source: KafkaSource) -> str:
    """Give an Apache Kafka's bootstrap servers."""
    assert apache_kafka_source.bootstrap_servers is not None
    return apache_kafka_source.bootstrap_servers


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> str:
    """Give the bootstrap servers of the embedded broker, then of Apache Kafka: what holds, holds on both."""
    name = {"embedded": "embedded_broker", "apache": "apache_kafka"}[request.param]
    bootstrap_servers: str = request.getfixturevalue(name)
    return bootstrap_servers


@pytest.fixture(scope="session")
def database() -> Iterator[EmbeddedDatabase]:
    """Give a PostgreSQL server; its `template` database is migrated."""
    server = EmbeddedDatabase()
    asyncio.run(server.start())
    asyncio.run(_make_template(server))
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def empty_dsn(database: EmbeddedDatabase) -> AsyncIterator[str]:
    """Give a database of the test's own that no migration has seen."""
    async for dsn in _fresh(database, "template1"):
        yield dsn


@pytest.fixture
async def dsn(database: EmbeddedDatabase) -> AsyncIterator[str]:
    """Give a migrated database of the test's own."""
    async for dsn in _fresh(database, TEMPLATE):
        yield dsn


@pytest.fixture
async def settings(broker: str, dsn: str) -> Settings:
    """Give settings for either broker, with topics of the test's own."""
    return await stand(broker, dsn)


@pytest.fixture
async def apache_settings(apache_kafka: str, dsn: str) -> Settings:
    """Give settings for Apache Kafka alone, with topics of the test's own."""
    return await stand(apache_kafka, dsn)


@pytest.fixture
async def embedded_settings(embedded_broker: str, dsn: str) -> Settings:
    """Give settings for the embedded broker alone, with topics of the test's own."""
    return await stand(embedded_broker, dsn)


async def stand(bootstrap_servers: str, dsn: str, **more: str) -> Settings:
    """Make topics under a prefix of their own and give settings with short times and free ports. `more` wins."""
    environ = {
        "kafka_bootstrap_servers": bootstrap_servers,
        "kafka_topic_prefix": f"t{uuid4().hex[:12]}.",
        "kafka_partitions": str(PARTITIONS),
        "postgres_dsn": dsn,
        "secret_key": new_key(),
        "ingest_port": "0",
        "ingest_spool_dir": spool_dir(),
        "reconciler_port": "0",
        "verifier_port": "0",
        "notifier_port": "0",
        "console_port": "0",
        "companies_refresh_seconds": "0.2",
        "probe_interval_seconds": "0.1",
        "stall_after_seconds": "3",
        "stall_grace_seconds": "0.5",
        "smtp_timeout_seconds": "3",
        "ingest_events_per_second": "100000",
        "ingest_events_burst": "1000000",
    } | more
    settings = load({f"RECONCAL_{name.upper()}": value for name, value in environ.items()})
    await kafka.ensure_topics(settings)
    return settings


def spool_dir() -> str:
    """Give a name for a spool directory that nobody else has; it is removed when the tests end."""
    return str(_spools() / uuid4().hex)


@cache
def _spools() -> Path:
    folder = tempfile.mkdtemp(prefix="reconcal-spools-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


async def _make_template(server: EmbeddedDatabase) -> None:
    connection = await asyncpg.connect(server.dsn)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    await migrate(_named(server.dsn, TEMPLATE))


async def _fresh(server: EmbeddedDatabase, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(server.dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _named(server.dsn, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


def _named(dsn: str, database: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()
