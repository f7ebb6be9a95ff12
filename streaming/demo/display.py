"""What the demo shows: steps, a live table, and a summary that ends with what to type next."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from streaming import config as cfg
from streaming.config.stores import SqliteSection
from streaming.demo import noticed, quality
from streaming.demo.audience import JobOutput
from streaming.demo.traffic import Sent

#: Without a terminal a line every so often is enough.
_PLAIN_EVERY_S = 5.0


def welcome(screen: Console, *, seconds: int, rate: int) -> None:
    """What is about to happen."""
    screen.print(
        Panel(
            f"[bold]A churn model on a live Kafka topic[/bold]\n{rate:,} customer events a second for {seconds} s: each one is scored by a saved "
            "Spark ML pipeline in real-time mode,\nand the newest prediction of each customer is kept in a store. All of it on this machine.",
            title="streaming demo",
            expand=False,
        )
    )


@contextmanager
def step(screen: Console, what: str) -> Iterator[None]:
    """One step, with its time when it is done."""
    began = time.monotonic()
    with screen.status(f"{what} …"):
        yield
    screen.print(f"[green]✓[/green] {what} [dim]{time.monotonic() - began:.1f} s[/dim]")


def indented(text: str) -> str:
    """The text, set in by three blanks."""
    return "\n".join(f"   {line}" for line in text.splitlines())


def percentiles(latencies_ms: list[float]) -> tuple[float, float, float]:
    """p50, p99 and maximum; NaN when there is nothing to measure."""
    if not latencies_ms:
        return (float("nan"),) * 3
    p50, p99, top = np.percentile(np.asarray(latencies_ms), (50, 99, 100))
    return float(p50), float(p99), float(top)


def live(screen: Console, sent: Sent, seen: JobOutput, *, seconds: int, stored: Callable[[], int], busy: Callable[[], bool]) -> None:
    """Show the traffic until it ends: a table that moves on a terminal, now and then a line elsewhere."""
    began = time.monotonic()
    if not screen.is_terminal:
        next_line = began
        while busy():
            if time.monotonic() >= next_line:
                next_line += _PLAIN_EVERY_S
                screen.print(_line(sent, seen, stored(), time.monotonic() - began))
            time.sleep(0.2)
        return
    with Live(console=screen, refresh_per_second=4, transient=True) as display:
        while busy():
            elapsed = time.monotonic() - began
            display.update(Group(ProgressBar(total=seconds, completed=min(elapsed, seconds), width=60), _table(sent, seen, stored())))
            time.sleep(0.25)


def _line(sent: Sent, seen: JobOutput, stored: int, elapsed: float) -> str:
    p50, p99, _ = percentiles(list(seen.recent_ms))
    return (
        f"  {elapsed:4.0f} s  sent {sent.total:,}  predicted {len(seen.event_ids):,}  rejected {len(seen.rejected_ids):,}  "
        f"stored {stored:,}  latency p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    )


def _table(sent: Sent, seen: JobOutput, stored: int) -> Table:
    p50, p99, top = percentiles(list(seen.recent_ms))
    table = Table(show_header=True, header_style="bold", min_width=60)
    for heading in ("sent", "predicted", "rejected", "stored", "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    figures = (sent.total, len(seen.event_ids), len(seen.rejected_ids), stored)
    table.add_row(*(f"{figure:,}" for figure in figures), f"{p50:.0f}", f"{p99:.0f}", f"{top:.0f}")
    return table


def summary(
    screen: Console,
    config: cfg.Config,
    sent: Sent,
    seen: JobOutput,
    *,
    seconds: int,
    stored: Mapping[str, tuple[str, float, str]],
    clean: bool,
) -> int:
    """Print the balance and what to type next; returns the exit code, 0 only when everything adds up."""
    checks = [
        (f"sent {sent.total:,} = predicted {len(seen.event_ids):,} + rejected {len(seen.rejected_ids):,}",
         sent.total == len(seen.event_ids) + len(seen.rejected_ids)),
        (f"rejected {len(seen.rejected_ids):,} = broken on purpose {sent.broken:,}", len(seen.rejected_ids) == sent.broken),
        (f"stored {len(stored):,} = customers seen {len(sent.customers):,}, each with the newest prediction on the topic",
         set(stored) == sent.customers and all(stored[key][0] == prediction["event_id"] for key, prediction in seen.newest.items())),
        ("the job stopped cleanly", clean),
    ]  # fmt: skip
    screen.rule("[bold]Summary")
    for words, well in checks:
        screen.print(f"[green]✓[/green] {words}" if well else f"[red]✗ {words}[/red]")
    p50, p99, top = percentiles(seen.latencies_ms)
    screen.print(f"\nLatency, from the producer's clock to the broker's append: p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {top:.0f} ms")
    if seen.reasons:
        screen.print("Rejected because of: " + ", ".join(f"{reason} {n}" for reason, n in seen.reasons.most_common()))
    screen.print(_examples(stored))
    _learning(screen, config, sent, seen, seconds=seconds)
    if config.monitor is not None and sent.drifted_at is not None:
        screen.print("\n[bold]What the monitor noticed[/bold] (prices rise by a quarter, and customers change their minds)")
        for line in noticed.lines(noticed.alerts(config), drifted_at=sent.drifted_at):
            screen.print(f"  {line}", highlight=False, soft_wrap=True)
    _next(screen, config, stored)
    return 0 if all(well for _, well in checks) else 1


def _learning(screen: Console, config: cfg.Config, sent: Sent, seen: JobOutput, *, seconds: int) -> None:
    """The drift, and what each model made of it."""
    curves = quality.curves(sent, seen, seconds=seconds)
    drift = seconds // 2
    screen.print("\n[bold]Half way the customers change their minds[/bold] (area under the ROC curve of the answers served, by second)")
    screen.print(quality.chart(curves, drift=drift), highlight=False, soft_wrap=True)
    for curve in curves:
        screen.print(
            f"  {curve.model}: {curve.mean(0, drift):.3f} before the drift, {curve.mean(seconds - seconds // 4, seconds):.3f} in the last quarter; "
            f"{len(seen.versions.get(curve.model, []))} version(s) served",
            highlight=False,
            soft_wrap=True,
        )
    path = Path(config.state).parent / "drift.png"
    if quality.picture(curves, path, drift=drift):
        screen.print(f"  the same as a picture: {path}", soft_wrap=True)


def _examples(stored: Mapping[str, tuple[str, float, str]]) -> Table:
    table = Table(title="A few stored predictions", title_justify="left", min_width=60)
    table.add_column("customer")
    table.add_column("event")
    table.add_column("will churn")
    table.add_column("probability", justify="right")
    for key in sorted(stored)[:5]:
        event_id, prediction, probability = stored[key]
        table.add_row(key, event_id, "yes" if prediction else "no", f"{json.loads(probability)[1]:.3f}" if probability else "")
    return table


def _next(screen: Console, config: cfg.Config, stored: Mapping[str, object]) -> None:
    assert isinstance(config.store, SqliteSection)
    customer = min(stored, default="…")
    screen.print("\n[bold]What to type next[/bold] [dim](the commands are in .venv/bin)[/dim]")
    for command, why in (
        (f"sqlite3 {config.store.path} \"SELECT * FROM predictions WHERE key = '{customer}'\"", "the store is a plain table"),
        (
            f"streaming versions {Path(config.state).parent / 'demo.yaml'} {config.learners[0].name}",
            "what the learner learned",
        ),
        (f"streaming drift {Path(config.state).parent / 'demo.yaml'} --html drift.html", "what the monitor saw, as a page"),
        ("less conf/demo.yaml", "the configuration that just ran"),
        ("streaming kafka", "a broker to play with, on localhost:9092"),
        ("streaming check conf/production.yaml", "after editing it: what your own model and topics still need"),
        ("streaming --help", "everything else"),
    ):
        screen.print(f"  {command}\n      [dim]{why}[/dim]", soft_wrap=True, highlight=False)
