"""The bounds of the design, measured on Apache Kafka and PostgreSQL with real processes: `python -m tests.bench`."""
