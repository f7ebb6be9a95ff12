"""The commands: each reads its options, calls one function and prints what came."""

from streaming.cli.main import cli, main

__all__ = ["cli", "main"]
