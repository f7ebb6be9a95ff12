"""A real Kafka broker from pinned jars, for development, the demo and the tests."""
