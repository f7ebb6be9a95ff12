"""Models that score without Spark and without Java: REST, edge devices, and Python formats on a stream."""
