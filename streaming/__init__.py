"""A streaming scoring service: Kafka events in, predictions of a saved Spark ML pipeline out, the newest kept in a store."""

__version__ = "0.1.0"
