"""One node of Apache Kafka (KRaft) from jars, for tests and benches.

python -m tests.support.kafka_server fetch
python -m tests.support.kafka_server run [--port 9092]
"""

import argparse
import secrets
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import click

from services.embedded.child import Child, ChildError
from services.embedded.ports import HOST, cluster_id, free_port
from tests.support.kafka_jars import KAFKA_DIR, NoKafkaError, fetch, java

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0

_SERVER: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},WIRE://{host}:{wire_port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{advertised_port},WIRE://{host}:{wire_advertised_port}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,WIRE:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""
_LOG4J: Final = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
"""


class KafkaServer:
    """A broker and controller on 127.0.0.1 that never outlives us.

    Its port and its data stay the same from `start` to `start`, whether `stop` or `kill` came between. Clients connect
    to `advertised_port`: put a proxy there. Those who shall be cut off while others are not connect to
    `wire_advertised_port`: put a proxy there that leads to `wire_port`. Nothing here is async: call it in a thread
    where that matters.
    """

    def __init__(
        self, port: int | None = None, data_dir: Path | None = None, *, advertised_port: int | None = None
    ) -> None:
        """`port`: a free one. `data_dir`: a temporary one, removed by `close`. Opens nothing yet."""
        self.port = port or free_port()
        self._controller_port, self.wire_port, self.wire_advertised_port = free_port(), free_port(), free_port()
        self._advertised_port = advertised_port or self.port
        self._scratch = TemporaryDirectory(prefix="reconcal-kafka-") if data_dir is None else None
        self.data_dir = Path(self._scratch.name) if self._scratch else data_dir or Path()
        self._child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Give what clients connect to: `host:port`, of the proxy where there is one."""
        return f"{HOST}:{self._advertised_port}"

    @property
    def log(self) -> Path:
        """Give the file of its log."""
        return self.data_dir / "kafka.log"

    @property
    def running(self) -> bool:
        """Say whether the process is there, be it paused."""
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Start it and wait until it takes requests, at most 60 s. Raises NoKafkaError."""
        libs = fetch()
        name = self._prepare(libs)
        options = ["-Xmx512m", "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}"]
        try:
            self._child = Child.start(
                [java(), *options, "-cp", f"{libs}/*", "kafka.Kafka", self.data_dir / "server.properties"],
                log=self.log,
                grace_seconds=STOP_SECONDS,
            )
            self._await(self._child, name)
        except BaseException as error:
            self.stop()
            if isinstance(error, ChildError):
                raise NoKafkaError(str(error)) from error
            raise

    def stop(self) -> None:
        """Stop it in an orderly way, paused or not; within 11 s."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)
            self._child.stop()

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """Stop the process (SIGSTOP): connections stay open, nothing answers."""
        if self._child is not None:
            self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on (SIGCONT)."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)

    def wait(self) -> None:
        """Wait until it has ended."""
        if self._child is not None:
            self._child.wait()

    def close(self) -> None:
        """Stop it and remove its data where they are temporary."""
        self.stop()
        if self._scratch is not None:
            self._scratch.cleanup()

    def __enter__(self) -> Self:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and remove."""
        self.close()

    def _prepare(self, libs: Path) -> str:
        """Write the configuration, format the log directory where it is new; gives the cluster's id."""
        data = self.data_dir / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self.data_dir / "server.properties"
        ports = {
            "port": self.port,
            "advertised_port": self._advertised_port,
            "controller_port": self._controller_port,
            "wire_port": self.wire_port,
            "wire_advertised_port": self.wire_advertised_port,
        }
        config.write_text(_SERVER.format(host=HOST, data=data, **ports), "utf-8")
        (self.data_dir / "log4j2.properties").write_text(_LOG4J, "utf-8")
        meta = data / "meta.properties"
        if not meta.exists():
            name = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A")
            _format(libs, config, name)
        lines = (line.partition("=") for line in meta.read_text("utf-8").splitlines())
        return next(value for key, _, value in lines if key == "cluster.id")

    def _await(self, child: Child, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while cluster_id(self.port) != name:
            if not child.running:
                raise ChildError(f"Apache Kafka ended: {child.last_words()} ({self.log})")
            if time.monotonic() > deadline:
                raise ChildError(f"Apache Kafka did not answer in time: {child.last_words()}")
            time.sleep(0.05)


def _format(libs: Path, config: Path, name: str) -> None:
    command = [java(), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", f"{libs}/*", "kafka.tools.StorageTool"]
    try:
        subprocess.run(
            [*command, "format", "--cluster-id", name, "--config", str(config)],
            capture_output=True,
            check=True,
            text=True,
            timeout=START_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NoKafkaError("Apache Kafka's storage cannot be formatted in time") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["it said nothing"]
        raise NoKafkaError(f"Apache Kafka's storage cannot be formatted: {said[0]}") from None


def main(arguments: list[str]) -> int:
    """Fetch, or run in the foreground until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="tests.support.kafka_server", description="One node of Apache Kafka")
    parser.add_argument("what", choices=("fetch", "run"))
    parser.add_argument("--port", type=int, default=9092)
    given = parser.parse_args(arguments)
    try:
        if given.what == "run":
            return _run(given.port)
        click.echo(str(fetch()))
    except NoKafkaError as error:
        click.echo(error, err=True)
        return 1
    return 0


def _run(port: int) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with KafkaServer(port, KAFKA_DIR / "node") as server:
        click.echo(f"Apache Kafka at {server.bootstrap_servers}; Ctrl-C stops it")
        try:
            server.wait()
        except KeyboardInterrupt:
            return 0
    click.echo(f"Apache Kafka ended by itself: {server.log}", err=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
