"""Saved Spark ML pipelines: vetted, read, guarded."""
