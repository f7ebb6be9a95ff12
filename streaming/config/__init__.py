"""The configuration: one YAML file, read into one frozen tree of values that answers its own questions."""

from streaming.config.load import Config, load, parse

__all__ = ["Config", "load", "parse"]
