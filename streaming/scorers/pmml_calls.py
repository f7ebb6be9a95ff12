"""Who calls whom in a PMML document: an evaluator follows a call that leads back to itself until its stack is full, and that ends the query."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Final
from xml.parsers.expat import ParserCreate

#: An evaluator goes down as deep as the elements do; a decision tree as deep as this has more leaves than a disk has bytes.
DEEPEST: Final = 500

#: What is defined, and what refers to a definition, by the attribute with its name.
_DEFINES: Final = {"DefineFunction": "function ", "DerivedField": "field "}
_REFERS: Final = {"Apply": ("function", "function "), "FieldRef": ("field", "field "), "NormContinuous": ("field", "field "),
                  "NormDiscrete": ("field", "field "), "Discretize": ("field", "field "), "FieldColumnPair": ("field", "field ")}  # fmt: skip


def endless(content: bytes) -> str | None:
    """What in a well-formed document would never end, in words; None when everything ends."""
    calls, depth = _calls(content)
    if depth > DEEPEST:
        return f"its elements are {depth} deep; expected at most {DEEPEST}"
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as cycle:
        return f"{' refers to '.join(reversed(cycle.args[1]))}: it would never come to an end"
    return None


def _calls(content: bytes) -> tuple[Mapping[str, set[str]], int]:
    """Every definition with the definitions that it refers to, and how deep the elements go."""
    calls: dict[str, set[str]] = {}
    data: set[str] = set()
    inside: list[str | None] = []
    deepest = 0

    def begin(element: str, attributes: dict[str, str]) -> None:
        nonlocal deepest
        kind = element.rsplit(":", 1)[-1]
        owner = next((name for name in reversed(inside) if name is not None), None)
        if kind == "DataField":
            data.add("field " + attributes.get("name", ""))
        if kind in _REFERS and owner is not None:
            attribute, prefix = _REFERS[kind]
            calls[owner].add(prefix + attributes.get(attribute, ""))
        own = _DEFINES[kind] + attributes.get("name", "") if kind in _DEFINES else None
        if own is not None:
            calls.setdefault(own, set())
        inside.append(own)
        deepest = max(deepest, len(inside))

    parser = ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _: inside.pop()
    parser.Parse(content, True)
    # A name that the data have is the data's: a derived field may be named like the field that it is made of.
    return {name: {call for call in called if call in calls and call not in data} for name, called in calls.items()}, deepest
