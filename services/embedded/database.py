"""The embedded database: PostgreSQL 18 from a wheel, listening on 127.0.0.1 with a password of its own."""

import asyncio
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import asyncpg

from services.embedded import data_directory
from services.embedded.child import Child, ChildError
from services.embedded.data_directory import DataDirectory
from services.embedded.ports import HOST
from services.embedded.server import EmbeddedServer
from services.plumbing.lifecycle import bounded

USER: Final = "reconcal"
DATABASE: Final = "reconcal"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 6.0

#: For a laptop: little memory, no unix socket, and no parallel queries, which would need more shared memory than
#: containers have. Commits are as durable as PostgreSQL's always are.
SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "512MB",
    "min_wal_size": "64MB",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",  # a statement may hold what is not for a log
}
#: For a directory that is thrown away.
UNSAFE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedDatabase(EmbeddedServer):
    """One PostgreSQL server with the database `reconcal`; its data stays in `data_dir` from start to start."""

    def __init__(self, data_dir: Path | None = None, port: int | None = None) -> None:
        """`data_dir`: a temporary one, removed at the end, unless given. `port`: a free one. Opens nothing yet."""
        self._data_dir = data_dir
        super().__init__(port)
        self._password = ""

    @property
    def dsn(self) -> str:
        """Give the address, password included, once started."""
        return self._dsn(DATABASE)

    async def _start(self, port: int) -> None:
        self._port = port
        if self._data_dir is None and self._scratch is None:
            self._scratch = TemporaryDirectory(prefix="reconcal-postgres-", ignore_cleanup_errors=True)
        where = self._data_dir or Path(self._scratch.name if self._scratch else "")
        try:
            async with asyncio.timeout(START_SECONDS):
                self._child = await asyncio.to_thread(self._serve, where)
                await self._create_database(self._child)
        except TimeoutError:
            said = self._child.last_words() if self._child else "it was never started"
            raise ChildError(f"the embedded database did not answer in time: {said}") from None

    def _serve(self, where: Path) -> Child:
        settings = SETTINGS | {"port": str(self._port)} | (UNSAFE if self._scratch else {})
        with DataDirectory.locked(where, USER) as directory:
            self._password = directory.password()
            return Child.start(
                directory.command("postgres", *(f"--{name}={value}" for name, value in settings.items())),
                log=where / data_directory.LOG,
                grace_seconds=STOP_SECONDS,
                stop_signal=signal.SIGINT,
                held=[directory.lock],
            )

    async def _create_database(self, server: Child) -> None:
        connection = await self._connected(server)
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await bounded(connection.close(), 1)

    async def _connected(self, server: Child) -> "asyncpg.Connection[asyncpg.Record]":
        while True:
            try:
                return await asyncpg.connect(self._dsn("postgres"), timeout=5)
            except (OSError, TimeoutError, asyncpg.PostgresError):
                if not server.running:
                    raise ChildError(f"the embedded database ended: {server.last_words()}") from None
                await asyncio.sleep(0.05)

    def _dsn(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@{HOST}:{self._port}/{database}"
