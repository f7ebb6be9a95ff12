"""The results as a page: the bounds, then one row for each system and setting, with what is not measured said."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.bounds import BOUNDS
from benchmarks.results import Figure, Part, Results


def number(value: float) -> str:
    """Three digits where they say something."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def cell(figure: Figure) -> str:
    """The median, and the spread when there are repeats."""
    s = figure.spread
    return number(s.median) if len(figure.repeats) == 1 else f"{number(s.median)} ({number(s.low)}-{number(s.high)})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def rows(part: Part) -> tuple[list[str], list[list[str]]]:
    """The figures of a part: a row for each (system, setting), a column for each measure."""
    measures = list(dict.fromkeys((figure.measure, figure.unit) for figure in part.figures))
    places = list(dict.fromkeys((figure.system, figure.setting) for figure in part.figures))
    cells = {(f.system, f.setting, f.measure): cell(f) for f in part.figures}
    head = ["system", "setting", *(f"{measure}, {unit}" if unit else measure for measure, unit in measures)]
    return head, [[*place, *(cells.get((*place, measure), "-") for measure, _ in measures)] for place in places]


def bounds(results: Results) -> str:
    """What the figures are held to."""
    return table(("bound", "expected", "measured", ""), ((b.says, b.expected, *b.judge(results)) for b in BOUNDS))


def page(results: Results, command: str) -> str:
    """The whole of RESULTS.md."""
    facts = "\n".join(f"- {name}: {value}" for name, value in results.machine.items())
    parts = "\n".join(section(part) for part in results.parts.values())
    return f"""# Results

Written by `{command}`; do not edit. [docs/performance.md](../docs/performance.md) says how to read and repeat it.

{facts}

A figure is a median; in brackets the least and the greatest of its repeats. Load averages above the number of cores mean
that the machine had other work to do: compare within a part, not across.

## Held to

{bounds(results)}
{parts}"""


def section(part: Part) -> str:
    """One part."""
    notes = "".join(f"- {note}\n" for note in part.notes)
    if not part.figures:
        return f"## {part.title}\n\nNot measured.\n\n{notes}"
    load = f"load average {part.load[0]:.1f} before, {part.load[1]:.1f} after"
    measured = f"Measured {part.when}, in {part.seconds:.0f} s, rounds: {part.rounds}; {load}."
    return f"## {part.title}\n\n{part.how}\n\n{measured}\n\n{table(*rows(part))}\n{notes}"
