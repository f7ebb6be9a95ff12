"""A saved pipeline as plain Catalyst expressions: no function of Spark ML, and no vector, between an event and its answer."""
