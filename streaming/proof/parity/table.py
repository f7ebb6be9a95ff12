"""The outcome of a run as a table for people: numbers of rows and keys, never values."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from streaming.proof.parity.run import ParityOutcome, Row


def table(outcome: ParityOutcome, *, title: str) -> Table:
    """One line for each form."""
    headings = ("", "form", "rows", "verdicts differ", "labels differ", "largest difference", "allowed", "rows that differ most", "note")
    made = Table(*headings, title=escape(title), title_justify="left")
    for row in outcome.rows:
        made.add_row(*map(escape, _cells(row)))
    return made


def summary(outcome: ParityOutcome) -> str:
    """One sentence about the events, one about the forms."""
    left = f", {outcome.left_out} left out (no key, no time, or an infinite number)" if outcome.left_out else ""
    events = f"{outcome.events} events{left}; the saved pipeline itself refuses {outcome.rejected} of them"
    differ = [row.form for row in outcome.rows if not row.ok]
    compared = sum(row.report is not None for row in outcome.rows)
    verdict = (
        f"these answer otherwise than the pipeline: {', '.join(differ)}" if differ else f"{compared} forms answer as the pipeline does"
    )
    return f"{events}\n{verdict}"


def _cells(row: Row) -> tuple[str, ...]:
    report = row.report
    if report is None:
        return ("–", row.form, "", "", "", "", "", "", row.note)
    largest = ", ".join(f"{name} {value:.2g}" for name, value in report.largest.items())
    worst = ", ".join(f"{number} (key {key})" for number, key in row.worst)
    counts = (str(report.rows), str(report.verdicts), str(report.labels))
    return ("✓" if report.ok else "✗", row.form, *counts, largest, f"{report.tolerance:.0e}", worst, row.note)
