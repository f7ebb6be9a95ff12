"""`streaming baseline` and `streaming drift`: what the stream is held against, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streaming import adapters
from streaming import config as cfg
from streaming.cli.options import CONFIG
from streaming.errors import ConfigError

if TYPE_CHECKING:
    from streaming.monitor.baseline import Baseline
    from streaming.monitor.history import History
    from streaming.monitor.overview import PastWindow


#: The worst window is looked for among so many: a week of five minutes.
_LOOKED_AT: Final = 2016


@click.command()
@CONFIG
@click.option(
    "--data", metavar="TABLE", help="Path or URI of rows like those that the model was trained with: .parquet, .csv or a Delta table."
)
@click.option(
    "--stream", metavar="DURATION", help="Instead of a table: the first so many hours that stand on the events topic, such as '2 hours'."
)
@click.option("--label", help="The column of the table with the label, as a number or as the text of --positive; by default train.label.")
@click.option("--positive", help="The text of the label that counts as 1; by default train.positive_label.")
@click.option("--out", metavar="FILE", help="Where to write it; by default into the state folder, where the monitor looks first.")
def baseline(config: Path, data: str | None, stream: str | None, label: str | None, positive: str | None, out: str | None) -> None:
    """Write down what the data looks like while the model of CONFIG is right: the monitor holds the stream against it.

    `streaming train` does this by itself for the models that it trains. A running job takes a new baseline when it is started again.
    """
    from streaming.runtime import files, session

    make = adapters.load("baseline", adapters.PARTS)
    loaded = cfg.load(config)
    if (data is None) == (stream is None):
        raise ConfigError("give either --data TABLE or --stream DURATION")
    with session.running(loaded, delta=_is_delta(data)) as spark:
        if data is not None:
            made = make.of_table(loaded, data, spark, label=label, positive=positive, source=str(config))
        else:
            made = make.of_stream(loaded, str(stream), spark, source=str(config))
        where = out or f"{loaded.state}/monitor/baseline.json"
        parent, _, name = where.rpartition("/")
        files.folder(parent or ".", lambda: spark).replace(name, made.to_bytes())
    click.echo(f"{made.rows} rows, {len(made.layout.columns)} columns, slices by {', '.join(made.layout.slices) or 'nothing'}")
    click.echo(f"written: {where}")


def _is_delta(data: str | None) -> bool:
    return data is not None and Path(data.rstrip("/")).suffix not in {".parquet", ".csv"}


@click.command()
@CONFIG
@click.option("--window", metavar="START", help="Show the window that began at this time (UTC); by default the newest and the worst.")
@click.option("--last", default=12, show_default=True, help="How many windows the overview has.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page instead, with charts; one file, no network.")
def drift(config: Path, window: str | None, last: int, html: Path | None) -> None:
    """Show what the monitor found: the newest window and the worst one, and how the last ones went.

    Reads the history in the state folder; the job need not run.
    """
    from rich.console import Console

    from streaming.runtime import files, session

    lane = adapters.load("monitor", adapters.PARTS)
    from streaming.monitor import overview

    loaded = cfg.load(config)
    screen = Console(width=max(110, Console().width))
    with session.lazily(loaded) as spark:
        state = files.folder(loaded.state, spark)
        history = lane.history(state)
        windows = overview.windows(history.table(last=max(last, _LOOKED_AT)))
        if html is not None and windows:
            _write(html, loaded, windows if window is None else [_at(windows, window)], history, lane.baseline_in_force(state))
            return
    if not windows:
        raise ConfigError(
            f"{config}: no window yet in {loaded.state}/monitor; the monitor lane writes one at the end of each window "
            "(is `monitor:` in the config, and has the job run for longer than one?)"
        )
    if window is not None:
        _show(screen, _at(windows, window), "window")
        return
    _show(screen, windows[-1], "newest window")
    bad = overview.worst(windows)
    if bad is not None and bad is not windows[-1]:
        _show(screen, bad, "worst window")
    screen.print(_trend(windows[-last:]))


def _write(html: Path, config: cfg.Config, chosen: list[PastWindow], history: History, base: Baseline | None) -> None:
    from streaming.monitor import report

    start = report.shown(chosen).start
    sums = history.newest_sums(start)
    source = report.Source(config.name, config.model.name, chosen, history.alerts(), base, {} if sums is None else {start: sums})
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(report.page(source, at=datetime.now(UTC)), encoding="utf-8")
    click.echo(f"written: {html}")


def _at(windows: list[PastWindow], window: str) -> PastWindow:
    try:
        asked = datetime.fromisoformat(window)
    except ValueError as wrong:
        raise ConfigError(f"--window: got {window!r}; expected a time such as 2026-01-31T12:00:00Z") from wrong
    ms = (asked if asked.tzinfo is not None else asked.replace(tzinfo=UTC)).timestamp() * 1000
    chosen = next((seen for seen in windows if seen.start <= ms < seen.end), None)
    if chosen is None:
        from streaming.monitor.record import iso

        raise ConfigError(f"--window: no window holds {window}; the newest begin at {', '.join(iso(seen.start) for seen in windows[-5:])}")
    return chosen


def _show(screen: Any, seen: PastWindow, title: str) -> None:
    from rich.table import Table

    from streaming.monitor import overview
    from streaming.monitor.record import chance, iso

    versions = sorted({row["model_version"] for row in seen.rows if row["model_version"]})
    screen.print(
        f"[bold]{title}[/bold]: {iso(seen.start)} to {iso(seen.end)}, model version {', '.join(versions) or 'unknown'}", highlight=False
    )
    counts = (f"{_number(seen.value('window', what))} {what}" for what in ("rows", "answers", "labels"))
    screen.print("  " + ", ".join(counts) + f", {_percent(seen.value('rejected', 'rate', subject=''))} rejected", highlight=False)
    if not seen.judged:
        screen.print("  too few rows to be judged; they are judged together with those of the next window")
    for line in _quality(seen):
        screen.print(f"  {line}", highlight=False)
    if not seen.drifted:
        screen.print("  nothing drifted\n" if seen.judged else "")
        return
    table = Table("what", "statistic", "value", "threshold", "chance", "rows", title="drifted", title_justify="left")
    named = overview.by_themselves(seen.drifted)
    for row in named[:15]:
        p = "" if row["p"] is None else chance(row["p"])
        table.add_row(overview.of_what(row), row["statistic"], f"{row['value']:.3f}", f"{row['threshold']:.3f}", p, _number(row["rows"]))
    screen.print(table)
    if len(named) > 15:
        screen.print(f"  and {len(named) - 15} more")
    if len(seen.drifted) > len(named):
        screen.print(f"  and {len(seen.drifted) - len(named)} of these in slices, no farther than as a whole")
    carriers = [f"{name} {share:.0%}" for name, share in seen.carriers()[:5] if share >= 0.05]
    if carriers:
        screen.print(f"  the prediction's shift is carried by: {', '.join(carriers)}", highlight=False)
    screen.print()


def _quality(seen: PastWindow) -> list[str]:
    lines = []
    for statistic in ("accuracy", "area_under_roc", "rmse"):
        estimate = seen.figure("estimate", statistic)
        parts = [
            f"{row['subject']} {_interval(row)} measured"
            for row in seen.rows
            if (row["kind"], row["statistic"], row["slice"]) == ("truth", statistic, "")
        ]
        if estimate is not None:
            parts.insert(0, f"{estimate['subject']} {_interval(estimate)} to be expected without labels")
        if parts:
            lines.append(f"{statistic}: {'; '.join(parts)}")
    return lines


def _interval(row: Any) -> str:
    ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{ends}"


def _trend(windows: list[PastWindow]) -> Any:
    from rich.table import Table

    from streaming.monitor import overview
    from streaming.monitor.record import iso

    table = Table(title="the last windows", title_justify="left")
    table.add_column("window", no_wrap=True)  # what --window takes
    for name in ("rows", "accuracy", "expected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst of all")
    table.add_column("× threshold", justify="right", no_wrap=True)
    table.add_column("drifted")
    for seen in windows:
        top = seen.worst
        names = sorted({row["subject"] for row in seen.drifted})
        table.add_row(
            iso(seen.start)[:19] + "Z", _number(seen.value("window", "rows")), _three(seen.value("truth", "accuracy")), _three(seen.value("estimate", "accuracy")),
            "" if top is None else f"{overview.of_what(top)}: {top['statistic']}", "" if top is None else f"{overview.excess(top):.1f}",
            ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "too few rows" if not seen.judged else "",
        )  # fmt: skip
    return table


def _number(value: Any) -> str:
    return "no" if not value else f"{int(value):,}"


def _percent(value: float | None) -> str:
    return "0 %" if not value else f"{value:.1%}"


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
