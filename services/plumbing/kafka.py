"""Kafka: how to reach it, and the topics. `publisher`, `reader` and `probe` are the clients.

Every call has a deadline; every stop is bounded.
"""

import asyncio
import ssl
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from schemas import topics
from services.plumbing.lifecycle import bounded
from services.plumbing.settings import Settings, SettingsError

STOP_SECONDS: Final = 3.0
#: Larger than what ingest takes, so that what an app wrote straight to Kafka can still be read, and set aside.
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024


def client_options(settings: Settings) -> dict[str, Any]:
    """Give what every client needs to connect."""
    settings.need("kafka_bootstrap_servers")
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": 10_000,
        "retry_backoff_ms": 100,
    }
    if "SASL" in settings.kafka_security_protocol:
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password,
        }
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file or None)
    return options


_CONFIG: Final = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_RECORD_BYTES)}


class Cluster(dict[str, int]):
    """Partition counts by topic (ours only, without the prefix), and the cluster's id."""

    cluster_id: str = ""


async def inspect(settings: Settings) -> Cluster:
    """Ask the broker which of our topics it has, and who it is. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        async with asyncio.timeout(15):
            await admin.start()
            wanted = [settings.kafka_topic_prefix + name for name in topics.ALL]
            have = set(await admin.list_topics())
            known = [name for name in wanted if name in have]
            found = Cluster()
            found.cluster_id = str((await admin.describe_cluster())["cluster_id"])
            for described in await admin.describe_topics(known) if known else []:
                name = described["topic"].removeprefix(settings.kafka_topic_prefix)
                found[name] = len(described["partitions"])
            return found
    finally:
        await bounded(admin.close(), STOP_SECONDS)


async def ensure_topics(settings: Settings) -> list[str]:
    """Make the topics that are not there yet; gives their names. Raises KafkaError."""
    have = await inspect(settings)
    missing = [name for name in topics.ALL if name not in have]
    if not missing:
        return []
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        async with asyncio.timeout(30):
            await admin.start()
            answer = await admin.create_topics(
                [
                    NewTopic(
                        settings.kafka_topic_prefix + name,
                        settings.kafka_partitions,
                        settings.kafka_replication_factor,
                        topic_configs=_CONFIG,
                    )
                    for name in missing
                ]
            )
    finally:
        await bounded(admin.close(), STOP_SECONDS)
    for topic_error in answer.topic_errors:
        code = topic_error[1]
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(f"{topic_error[0]}: {topic_error[2] if len(topic_error) > 2 else ''}")  # noqa: PLR2004
    return missing


def partition_count(found: Cluster) -> int:
    """Give the partition count of the three input topics. Raises SettingsError that names those that do not fit."""
    missing = [name for name in topics.INPUTS if name not in found]
    if missing:
        raise SettingsError(f"topics that are not there: {', '.join(missing)}; `reconcal topics` makes them")
    counts = {name: found[name] for name in topics.INPUTS}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise SettingsError(f"the input topics must have the same partition count: {said}")
    return next(iter(counts.values()))
