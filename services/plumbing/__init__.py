"""The pipes: Kafka, PostgreSQL, time, the operating system. No noun of the domain is known here but the envelope."""
