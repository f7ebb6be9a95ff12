"""Kafka: what Spark reads and writes there, the questions asked of a broker, and where topics end."""
