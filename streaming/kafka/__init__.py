"""Everything asked of a Kafka broker: bounded and streaming reads, writes, administration."""
