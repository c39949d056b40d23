"""What is said when there is no Apache Kafka to test with."""

from typing import Final

NO_KAFKA: Final = "no Apache Kafka: neither RECONCAL_TEST_KAFKA nor a Docker engine nor Java with Maven"
