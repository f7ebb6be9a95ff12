"""The run: every form asked once, each compared with the pipeline itself by the comparer of the conversions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from pyspark.sql import SparkSession

from streaming.config.load import Config
from streaming.errors import ConfigError, ModelError
from streaming.models.spark import pipeline
from streaming.proof.parity import forms, golden
from streaming.proof.parity.answers import some
from streaming.proof.parity.forms import Bench, NoSuchForm, NotInstalled
from streaming.scorers import compare
from streaming.scorers.base import Scores

#: What --forms may name -> the forms it stands for.
FORMS: Final[Mapping[str, Mapping[str, Callable[[Bench], Scores]]]] = {
    "stream": {"stream, real-time": forms.realtime, "stream, micro-batch": forms.microbatch},
    "batch": {"batch": forms.batch},
    "rest": {"REST": forms.rest},
    "edge": {"edge": forms.edge},
    "onnx": {"ONNX": forms.onnx},
    "pmml": {"PMML": forms.pmml},
}
#: Forms that are compared on the events without nulls: PMML engines disagree on what a missing value is.
_COMPLETE: Final = frozenset({"PMML"})
_WORST: Final = 5


@dataclass(frozen=True)
class Row:
    """What is said of one form."""

    form: str
    #: None when the model has no such form.
    report: compare.Agreement | None
    #: The worst events, worst first: their number in the data, their key.
    worst: Sequence[tuple[int, str]] = ()
    #: Why there is no such form, or what the form said of the worst event; names columns, never values.
    note: str = ""

    @property
    def ok(self) -> bool:
        """False when the form answers otherwise than the pipeline."""
        return self.report is None or self.report.ok


@dataclass(frozen=True)
class ParityOutcome:
    """All forms, on one golden set."""

    rows: Sequence[Row]
    events: int
    #: Events that the pipeline itself refuses.
    rejected: int
    left_out: int

    @property
    def ok(self) -> bool:
        """True when no form differs."""
        return all(row.ok for row in self.rows)


def chosen(names: str | None) -> tuple[str, ...]:
    """The forms of a list with commas; all for None. ConfigError on an unknown one."""
    forms = tuple(FORMS) if names is None else tuple(name.strip() for name in names.split(",") if name.strip())
    unknown = [name for name in forms if name not in FORMS]
    if unknown or not forms:
        raise ConfigError(f"--forms: unknown form {', '.join(unknown) or '(none given)'}; valid: {', '.join(FORMS)}")
    return forms


def run(
    config: Config,
    spark: SparkSession,
    *,
    names: Sequence[str] | None = None,
    data: Path | None = None,
    n: int | None = None,
    on_form: Callable[[str], None] = lambda _: None,
) -> ParityOutcome:
    """Compare the forms `names` with the pipeline, on the first `n` rows of `data` or on `n` generated ones.

    None: all of them, but for one whose converter nobody installed, which is said. One that is named must be there.

    `on_form` hears the name of each before it is asked. Writes to topics and folders of this run's own, all gone at the
    end. ConfigError or ModelError when the comparison itself is impossible; a difference is no error but in the outcome.
    """
    if config.model.format != "spark":
        raise ConfigError(f"model.format: {config.model.format}; parity compares the forms of a Spark pipeline (format: spark) only")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="streaming-parity-")))
        model = pipeline.load(config.model, spark)
        events = golden.make(config, model, folder, data=data, n=n)
        bench = Bench(config, model, events, folder, f"{config.name}-parity")
        original = forms.reference(bench)
        rows = []
        for form, asked in ((form, asked) for name in names or FORMS for form, asked in FORMS[name].items()):
            on_form(form)
            rows.append(_row(form, asked, bench, original, named=names is not None))
    rejected = sum(said is not None for said in original.error)
    return ParityOutcome(rows, len(events), rejected, events.left_out)


def _row(form: str, asked: Callable[[Bench], Scores], bench: Bench, original: Scores, *, named: bool) -> Row:
    try:
        answered = asked(bench)
    except NotInstalled as missing:
        if named:
            raise
        return Row(form, None, note=f"not compared: {missing}")
    except NoSuchForm as none:
        return Row(form, None, note=f"no such form: {none}")
    where = bench.golden.complete() if form in _COMPLETE else list(range(len(bench.golden)))
    if not where:
        return Row(form, None, note="not compared: every event has a null")
    return judged(form, some(original, where), some(answered, where), where, bench)


def judged(form: str, original: Scores, answered: Scores, where: Sequence[int], bench: Bench) -> Row:
    """The comparison of one form, on the events `where`."""
    classes = bench.model.kind != "regression"
    original, answered = _both_or_none(original, answered)
    try:
        report = compare.compare(original, answered, classes=classes, tolerance=compare.TOLERANCE)
    except ModelError as incomparable:
        empty = compare.Agreement(len(where), 0, len(where), 0, {}, (), compare.TOLERANCE)
        return Row(form, empty, note=str(incomparable))
    places = [(bench.golden.places[where[i]], bench.golden.keys[where[i]]) for i in report.worst[:_WORST]]
    said = next((words for i in report.worst if (words := answered.error[i] or original.error[i])), "")
    return Row(form, report, places, said)


def _both_or_none(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    """The two as they are, but for a side that rejects every row: then nobody can tell whether it gives probabilities."""
    for refusing, other in ((a, b), (b, a)):
        if refusing.probability is None and other.probability is not None and all(refusing.error):
            empty = np.full_like(other.probability, np.nan)
            filled = Scores(refusing.prediction, empty, refusing.error)
            return (filled, other) if refusing is a else (other, filled)
    return a, b
