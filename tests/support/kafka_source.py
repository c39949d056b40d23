"""Where tests get an Apache Kafka from: one that is given, a container, or jars."""

import gc
import os
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

from tests.support.kafka_jars import NoKafkaError
from tests.support.kafka_server import KafkaServer
from tests.support.no_kafka import NO_KAFKA

GIVEN: Final = "RECONCAL_TEST_KAFKA"
_CONTAINER_SECONDS: Final = 90


@dataclass(frozen=True, kw_only=True)
class KafkaSource:
    """An Apache Kafka that answers, or the reason why there is none."""

    bootstrap_servers: str | None
    reason: str
    #: What can be killed and paused; None where it is not ours.
    server: KafkaServer | None = None
    close: Callable[[], object] = lambda: None


def find_kafka() -> KafkaSource:
    """Give the first that there is: `RECONCAL_TEST_KAFKA`, a container, jars by Maven. Close it at the end."""
    given = os.environ.get(GIVEN)
    if given:
        return KafkaSource(bootstrap_servers=given, reason=f"given by {GIVEN}")
    container = _container()
    if container.bootstrap_servers:
        return container
    jars = _jars()
    if jars.bootstrap_servers:
        return jars
    return KafkaSource(bootstrap_servers=None, reason=f"{NO_KAFKA} ({container.reason}; {jars.reason})")


def _container() -> KafkaSource:
    refused = _engine_refuses()
    if refused is not None:
        return KafkaSource(bootstrap_servers=None, reason=refused)
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - slow, and only wanted here

    kafka = KafkaContainer().with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    try:
        kafka.start(timeout=_CONTAINER_SECONDS)
        return KafkaSource(bootstrap_servers=kafka.get_bootstrap_server(), reason="a container", close=kafka.stop)
    except (DockerException, OSError) as error:
        with suppress(DockerException, OSError):
            kafka.stop()
        return KafkaSource(bootstrap_servers=None, reason=f"no container: {_line(error)}")


def _engine_refuses() -> str | None:
    """Ask the Docker engine for a sign of life, at most 2 s; gives the reason where there is none."""
    with warnings.catch_warnings():  # docker leaves its socket to the garbage collector when nobody answers
        warnings.simplefilter("ignore")
        try:
            return _ping()
        finally:
            gc.collect()


def _ping() -> str | None:
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - slow, and only wanted here

    try:
        with closing(docker.from_env(timeout=2)) as engine:
            engine.ping()
    except (docker.errors.DockerException, OSError) as error:
        return f"no Docker engine: {_line(error)}"
    return None


def _jars() -> KafkaSource:
    server = KafkaServer()
    try:
        server.start()
    except NoKafkaError as error:
        server.close()
        return KafkaSource(bootstrap_servers=None, reason=_line(error))
    return KafkaSource(
        bootstrap_servers=server.bootstrap_servers, reason="jars from Maven", server=server, close=server.close
    )


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
