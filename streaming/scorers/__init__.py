"""A saved model scores NumPy columns, without Spark: for REST, devices, and Python formats on a stream."""
