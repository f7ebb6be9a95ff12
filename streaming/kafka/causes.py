"""The chain of causes of a Java exception: what tells errors apart, whoever met them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from streaming import secrets


@dataclass(frozen=True)
class Causes:
    """What an exception and all its causes say together."""

    #: The simple names of their classes and super classes.
    names: frozenset[str]
    #: The first line of the deepest message there is, without secrets; the name of the deepest class when none has words.
    message: str


def causes(thrown: Any) -> Causes:
    """The chain of a Java throwable, as py4j shows it."""
    chain = list(_chain(thrown))
    names = frozenset(name for each in chain for name in _classes(each))
    words = [line for each in chain if (line := _first_line(each))]
    return Causes(names, secrets.redact(words[-1] if words else str(chain[-1].getClass().getSimpleName())))


def _chain(thrown: Any) -> Iterator[Any]:
    while thrown is not None:
        yield thrown
        thrown = thrown.getCause()


def _classes(thrown: Any) -> Iterator[str]:
    kind = thrown.getClass()
    while kind is not None:
        yield str(kind.getSimpleName())
        kind = kind.getSuperclass()


def _first_line(thrown: Any) -> str:
    lines = str(thrown.getMessage() or "").strip().splitlines()
    return " ".join(lines[0].split()) if lines else ""
