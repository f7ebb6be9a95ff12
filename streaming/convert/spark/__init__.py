"""Spark ML pipelines as ONNX graphs."""
