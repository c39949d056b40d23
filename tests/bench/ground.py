"""What every bench stands on: one Apache Kafka, one PostgreSQL, and our services, each a process of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
from msgspec import Struct

from services.companies.admin import Added, NewCompany, add
from services.embedded.child import Child
from services.embedded.database import EmbeddedDatabase
from services.plumbing import kafka
from services.plumbing.migrate import migrate
from services.plumbing.secrets import Vault, new_key
from services.plumbing.settings import Settings, load
from tests.bench.findings import UnmeasuredError
from tests.support.kafka_server import KafkaServer
from tests.support.processes import Service, environ_of

PARTITIONS: Final = 12
_WORKER_SECONDS: Final = 300.0
_COMMAND_SECONDS: Final = 60.0


class Tree(Struct, frozen=True):
    """A checkout whose services are run. `path`: its root; None: the one that this bench is part of."""

    path: Path | None = None

    @property
    def python(self) -> tuple[str, ...]:
        """Give the interpreter; of another tree one that does not look where we stand."""
        return (sys.executable,) if self.path is None else (sys.executable, "-P")

    def environ(self, settings: Settings) -> dict[str, str]:
        """Give what makes these settings and this tree's modules those of a process."""
        return environ_of(settings) | ({} if self.path is None else {"PYTHONPATH": str(self.path)})


HERE: Final = Tree()


class Ground:
    """A broker, a database and what a bench asks of them."""

    def __init__(self, broker: KafkaServer, database: EmbeddedDatabase, folder: Path) -> None:
        """Made by `ground`."""
        self._broker, self._database, self._folder = broker, database, folder
        self._numbers = count(1)
        self._services: list[Service] = []

    @property
    def pids(self) -> dict[str, int]:
        """Give the process ids of Kafka and PostgreSQL."""
        assert self._broker._child is not None
        assert self._database.pid is not None
        return {"Kafka": self._broker._child.pid, "PostgreSQL": self._database.pid}

    async def settings(self, tree: Tree = HERE, **other: str) -> Settings:
        """Give settings as they are by default, on topics and a database of their own, migrated by that tree."""
        name = f"bench{next(self._numbers)}"
        await self._run(f"CREATE DATABASE {name}")
        environ = {
            "kafka_bootstrap_servers": self._broker.bootstrap_servers,
            "kafka_topic_prefix": f"{name}.",
            "kafka_partitions": str(PARTITIONS),
            "postgres_dsn": urlsplit(self._database.dsn)._replace(path=f"/{name}").geturl(),
            "secret_key": new_key(),
            "ingest_spool_dir": str(self.path("spool")),
            "ingest_events_per_second": "1000000",  # the guard counts, and lets everything in
            **dict.fromkeys(("ingest_port", "reconciler_port", "notifier_port"), "0"),
        } | other
        settings = load({f"RECONCAL_{key.upper()}": value for key, value in environ.items()})
        if tree.path is None:
            await migrate(settings.postgres_dsn)
            await kafka.ensure_topics(settings)
        else:
            await _command(tree, settings, "migrate")
            await _command(tree, settings, "topics")
        return settings

    async def drop(self, settings: Settings) -> None:
        """Remove a database that was measured: the next one is not to pay for it."""
        await self._run(f"DROP DATABASE {urlsplit(settings.postgres_dsn).path[1:]} WITH (FORCE)")

    def start(self, role: str, settings: Settings, command: Sequence[str] | None = None, tree: Tree = HERE) -> Service:
        """Start `reconcal <role>`, or a Python command that stands for it. It is killed at the end at the latest."""
        log = self._folder / f"{role}-{next(self._numbers)}.log"
        python = [*tree.python, *(command or ("-m", "services.cli", role))]
        service = Service(role, Child.start(python, log=log, grace_seconds=10, env=tree.environ(settings)), log)
        self._services.append(service)
        return service

    def path(self, name: str) -> Path:
        """Give a path for a file that a bench writes."""
        return self._folder / f"{next(self._numbers)}-{name}"

    def end(self) -> None:
        """Kill what still runs."""
        for service in self._services:
            service.kill()

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self._database.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Start both. PostgreSQL gets a directory, so that its commits are as durable as they are in earnest."""
    with TemporaryDirectory(prefix="reconcal-bench-") as folder, TemporaryDirectory(prefix="reconcal-bench-") as data:
        broker = KafkaServer()
        try:
            await asyncio.to_thread(broker.start)
            async with EmbeddedDatabase(Path(data)) as database:
                made = Ground(broker, database, Path(folder))
                try:
                    yield made
                finally:
                    made.end()
        finally:
            await asyncio.to_thread(broker.close)


def pid_of(service: Service) -> int:
    """Give the process id of a service."""
    return service._child.pid


async def stopped(service: Service) -> None:
    """Tell a service to stop and wait until it has."""
    service.tell_to_stop()
    await service.ended(12)


async def companies(settings: Settings, names: Iterable[str], window_seconds: float = 300.0) -> list[Added]:
    """Add companies; gives them with their secrets."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    vault = Vault(settings.secret_key)
    try:
        return [
            await add(connection, vault, NewCompany(company_id=name, name=name, window_seconds=window_seconds))
            for name in names
        ]
    finally:
        await connection.close()


async def _command(tree: Tree, settings: Settings, name: str) -> None:
    """Run one of a tree's own commands to its end."""
    process = await asyncio.create_subprocess_exec(
        *tree.python, "-m", "services.cli", name, env=os.environ | tree.environ(settings),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise UnmeasuredError(f"{tree.path}: {name} did not end within {_COMMAND_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise UnmeasuredError(f"{tree.path}: {name}: {said.decode().strip()}")


async def worker(module: str, order: object, seconds: float = _WORKER_SECONDS) -> Any:
    """Run `tests.bench.<module>` as a process: JSON in, JSON out, and nothing secret on its command line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.bench.{module}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            said, trouble = await process.communicate(msgspec.json.encode(order))
    except TimeoutError:
        raise UnmeasuredError(f"{module} did not end within {seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise UnmeasuredError(f"{module}: {(trouble.decode().strip().splitlines() or ['it said nothing'])[-1]}")
    return msgspec.json.decode(said)
