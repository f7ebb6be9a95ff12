"""Everything side by side in one run: latency, drain and the costs of single parts, into one page and one picture.

    python -m benchmarks suite [--quick] [--parts latency drain …] [--systems …] [--out FOLDER]

A run of some parts only replaces these and keeps the others' figures, with their own times and loads.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from benchmarks import apart, chart, crayfish, drain, harness, labels, latency, prepare, report, results, scaling, soak
from benchmarks.machine import machine
from benchmarks.results import Part, Results
from benchmarks.running import Stopped
from benchmarks.systems.base import PEERS
from benchmarks.watch import Watch
from streaming.errors import StreamingError

PAGE, PICTURE = "RESULTS.md", "latency.png"


@dataclass(frozen=True)
class Plan:
    """How much is measured, and how long it takes on two quiet cores."""

    latency: latency.Plan
    drain: drain.Plan
    crayfish: drain.Plan
    scaling: scaling.Plan
    labels: labels.Plan
    soak: soak.Plan
    #: Of the parts that run apart: their command lines.
    cost: tuple[str, ...]
    stores: tuple[str, ...]
    learners: tuple[str, ...]
    parts: tuple[str, ...]
    expected_s: float


QUICK: Final = Plan(
    latency.Plan(
        ("realtime", "realtime-all", "identity-realtime", "microbatch", "microbatch-all", "identity-microbatch", "sklearn"),
        rates=((1_000, 6.0),),
        trigger_s=10,
        warm_up_s=15.0,
    ),
    drain.Plan(("microbatch", "sklearn", "parse"), events=300_000, cap_s=20.0),
    drain.Plan((), events=5_000, cap_s=20.0),
    scaling.Plan(cores=(1, 2), partitions=(1, 16), models=(20,), events=100_000, cap_s=20.0),
    labels.Plan(labels=50_000, rate=200, seconds=15.0),
    soak.Plan(minutes=2.0, rate=1_000),
    cost=("--columns", "10", "100", "--cells", "1000000", "--repeats", "2"),
    stores=("--keys", "10000", "--batches", "3"),
    learners=("--rows", "3000"),
    parts=("latency", "drain"),
    expected_s=180.0,
)
FULL: Final = Plan(
    latency.Plan(
        (
            "realtime", "realtime-store", "realtime-all", "identity-realtime", "microbatch", "microbatch-all", "identity-microbatch",
            "foreach-batch", "quix", "sklearn", "onnx",
        ),
        rates=((1_000, 8.0), (500, 4.0), (5_000, 4.0), (20_000, 4.0)),
        trigger_s=30,
        warm_up_s=30.0,
    ),
    drain.Plan(
        ("microbatch", "sklearn", "sklearn-2", "onnx", "foreach-batch", "quix", "parse", "bytes"),
        events=2_000_000,
        cap_s=60.0,
    ),
    drain.Plan((), events=20_000, cap_s=20.0),
    scaling.Plan(cores=(1, 2), partitions=(1, 16), models=(5, 20), events=300_000, cap_s=20.0),
    labels.Plan(labels=200_000, rate=200, seconds=30.0),
    soak.Plan(minutes=30.0, rate=1_000),
    cost=("--cells", "20000000", "--repeats", "2"),
    stores=(),
    learners=(),
    parts=("latency", "drain", "cost", "crayfish", "stores", "learners", "labels", "scaling"),
    expected_s=900.0,
)  # fmt: skip


#: (home, plan, the part to fill, progress)
Run = Callable[[Path, Plan, Part, Watch], None]


def with_broker(measure: Callable[[harness.Bench, Plan, Part, Watch], None]) -> Run:
    """A part that needs a broker of its own."""

    def run(home: Path, plan: Plan, part: Part, watch: Watch) -> None:
        with harness.bench(home) as bench:
            measure(bench, plan, part, watch)

    return run


def by_itself(module: str, arguments: Callable[[Plan], Sequence[str]], *, peers: bool = False) -> Run:
    """A part that needs a process of its own, and perhaps the peers' interpreter."""

    def run(home: Path, plan: Plan, part: Part, watch: Watch) -> None:
        apart.run(module, arguments(plan), part, watch, python=PEERS if peers and PEERS.exists() else None, log=home / f"{module}.log")

    return run


@dataclass(frozen=True)
class Measured:
    """A part: what it says of itself, and how it is measured."""

    title: str
    how: str
    run: Run


PARTS: Final[dict[str, Measured]] = {
    "latency": Measured(
        "Latency, Kafka to Kafka",
        "Open loop; from the moment an event is due to the broker's stamp (1 ms) on its answer. Sent = received and every answer equal to "
        "the pipeline's, or the system is left out. \"of a fifth\": median and spread over five stretches of the window.",
        with_broker(lambda bench, plan, part, watch: latency.measure(bench, plan.latency, part, watch)),
    ),
    "drain": Measured(
        "Draining a backlog, Kafka to Kafka",
        "Cold: from the launch of the processes to the last answer. Warm: the second half alone, with the spread of its tenths. CPU: all "
        "processes of the system, start included, without the broker.",
        with_broker(lambda bench, plan, part, watch: drain.measure(bench, plan.drain, part, watch)),
    ),
    "cost": Measured(
        "What a model costs in Spark",
        "Rows in memory to nowhere, two cores; forms of one model, equal on 1,000 rows before they are timed. Linear: assembler, scaler, "
        "logistic regression; tree: 20 trees of depth 5.",
        by_itself("cost", lambda plan: plan.cost),
    ),
    "crayfish": Measured(
        "Crayfish's feed-forward network (EDBT 2024) through ONNX, Kafka to Kafka",
        "28 x 28 inputs as JSON text, 28,000 weights, random. The columns are those of the drain.",
        with_broker(lambda bench, plan, part, watch: crayfish.measure(bench, plan.crayfish, part, watch)),
    ),
    "stores": Measured(
        "Stores against their drivers",
        "Insert: a batch of new keys. Replace: every row newer. Repeat: the same batch again, which a store must leave alone (the bare upsert "
        "rewrites it). Stores read a Spark frame, drivers Python tuples.",
        by_itself("stores", lambda plan: plan.stores),
    ),
    "learners": Measured(
        "Online learners at equal loss",
        "Test-then-train over one stream, each learner at the learning rate with its least log loss. A rate says something only among those "
        "whose loss is near the best. One run, no repeats. CapyMOA has no scaler: its rows are standardized beforehand, by the whole stream.",
        by_itself("learners", lambda plan: plan.learners, peers=True),
    ),
    "labels": Measured(
        "Labels",
        "Backlog: the LEARN lane alone meets all labels at once. In force: all lanes; from the broker's stamp on a label to that on the first "
        "prediction made with it.",
        lambda home, plan, part, watch: labels.measure(home, plan.labels, part, watch),
    ),
    "scaling": Measured(
        "How cost grows",
        "The score lane in micro-batches. Models: the pipeline and learners beside it, each of which writes a prediction with its features. "
        "The columns are those of the drain; for growth with the number of features see what a model costs.",
        with_broker(lambda bench, plan, part, watch: scaling.measure(bench, plan.scaling, part, watch)),
    ),
    "soak": Measured(
        "Does it grow?",
        "All lanes in real-time mode, steady traffic, a label for each event. Memory every 10 s, the live heap after a full collection every "
        "minute; the slope is that of the last two thirds. The latencies are those of all these minutes, full collections included.",
        with_broker(lambda bench, plan, part, watch: soak.measure(bench, plan.soak, part, watch)),
    ),
}  # fmt: skip


def begin(name: str, rounds: int) -> Part:
    """A part with nothing in it yet."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Part(name, PARTS[name].title, PARTS[name].how, when=when, rounds=rounds, load=(os.getloadavg()[0],) * 2)


def measure(part: Part, home: Path, plan: Plan, watch: Watch) -> None:
    """Measure one part. What goes wrong in it is said in it, and the others go on; what was measured until then stands."""
    began = time.monotonic()
    try:
        for _ in range(part.rounds):
            PARTS[part.name].run(home, plan, part, watch)
    except (Stopped, AssertionError, StreamingError, KafkaException, OSError) as failed:
        part.notes.append(f"not measured to the end: {type(failed).__name__}: {failed}")
    except (SystemExit, KeyboardInterrupt):
        part.notes.append("stopped before the end")
        raise
    finally:
        part.seconds, part.load = time.monotonic() - began, (part.load[0], os.getloadavg()[0])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three minutes instead of fifteen")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: those of the plan")
    parser.add_argument("--systems", nargs="+", help="only these systems")
    parser.add_argument("--rates", type=int, nargs="+", help="of the latency: only these of the plan's events per second")
    parser.add_argument("--rounds", type=int, default=1, help="measure every system so often; medians and spreads are over the rounds")
    parser.add_argument(
        "--out", type=Path, help="where RESULTS.md and the picture go; default: benchmarks, with --quick .cache/benchmarks/quick"
    )
    return parser.parse_args()


def only(plan: Plan, systems: list[str] | None, rates: list[int] | None = None) -> Plan:
    """The plan with these systems alone, also those that only the long plan has, and with these rates of the latency alone."""
    if rates is not None:
        plan = replace(plan, latency=replace(plan.latency, rates=tuple(rate for rate in plan.latency.rates if rate[0] in rates)))
        if len(plan.latency.rates) < len(rates):
            raise SystemExit(f"--rates: got {rates}; this plan has {[rate for rate, _ in FULL.latency.rates]}")
    if systems is None:
        return plan
    known = [tuple(dict.fromkeys((*of.systems, *more.systems))) for of, more in ((plan.latency, FULL.latency), (plan.drain, FULL.drain))]
    if unknown := set(systems) - {name for names in known for name in names}:
        raise SystemExit(f"--systems: unknown: {', '.join(sorted(unknown))}; known: {', '.join(dict.fromkeys(known[0] + known[1]))}")
    kept = [tuple(name for name in names if name in systems) for names in known]
    return replace(plan, latency=replace(plan.latency, systems=kept[0]), drain=replace(plan.drain, systems=kept[1]))


def main() -> None:
    """Measure and write."""
    given = arguments()
    plan = only(QUICK if given.quick else FULL, given.systems, given.rates)
    out = given.out or (given.home / "quick" if given.quick else Path("benchmarks"))
    raw = given.home / f"{'quick' if given.quick else 'full'}.json"
    out.mkdir(parents=True, exist_ok=True)
    prepare.ready(given.home.absolute())
    parts = given.parts or plan.parts
    measured = results.load(raw) if raw.exists() and given.parts else Results({})
    measured.machine = machine() | {"seeds": f"training {prepare.TRAINING_SEED}, events {prepare.SEED}"}
    watch = Watch(expected_s=plan.expected_s * given.rounds)
    for name in parts:
        measured.parts[name] = begin(name, given.rounds)
        try:
            measure(measured.parts[name], given.home.absolute(), plan, watch)
        finally:
            measured.save(raw)
            write(measured, out, f"python -m benchmarks suite{' --quick' if given.quick else ''}")
    print(report.bounds(measured) + "\n" + "\n".join(report.section(part) for part in measured.parts.values()))
    print(f"written: {out / PAGE}")


def write(measured: Results, out: Path, command: str) -> None:
    """The page and the picture."""
    (out / PAGE).write_text(report.page(measured, command))
    if "latency" in measured.parts and chart.draw(measured.parts["latency"], out / PICTURE):
        with (out / PAGE).open("a") as page:
            page.write(f"\n![How long events wait]({PICTURE})\n")


if __name__ == "__main__":
    main()
