"""Alerts: when one is raised, when it is over, and what it says. Pure: rules, a record and a memory in, a memory and alerts out.

An alert is raised when its subject was bad in `after` windows in a row, and over when the figure it was raised for was
below :data:`BELOW` of its threshold in `clear_after` windows in a row. What is between the two changes nothing. It names columns, models
and slices by number; values of events are in the history table only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, time
from typing import Any, Final

from streaming.config.monitoring import Rule, Silence
from streaming.monitor.record import Measure, Record, chance, iso, standing_alone

FORMAT: Final = 1

#: An alert is over when its figure is below this share of the threshold.
BELOW: Final = 0.8
#: Figures that an alert carries.
_SHOWN: Final = 5

#: The kind of a record's figures that a rule is about.
KINDS: Final = {
    "data_drift": "feature",
    "prediction_drift": "prediction",
    "quality": "quality",
    "concept_drift": "concept",
    "rejected": "rejected",
}


@dataclass(frozen=True)
class Alert:
    """Something has gone wrong, or is right again."""

    #: The same for the alert and for its end.
    id: str
    state: str
    on: str
    severity: str
    service: str
    model: str
    model_version: str
    #: ISO 8601: the start of the first window that showed it, and the window that this is said about.
    since: str
    window_start: str
    window_end: str
    #: One sentence.
    says: str
    #: What to do next.
    next: str
    #: When it was said; of an alert that a crash repeats, the last time.
    at: str = ""
    #: The figures, the greatest excess first.
    figures: tuple[Measure, ...] = ()
    #: What is done about it.
    do: tuple[str, ...] = ()
    silenced: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it stands on the topic and in the webhook's body."""
        return {"format": FORMAT, **asdict(self), "figures": [figure.to_json() for figure in self.figures], "do": list(self.do)}

    def line(self) -> str:
        """The log line."""
        return f"alert={self.id} state={self.state} severity={self.severity} since={self.since} {self.says}; {self.next}"


@dataclass(frozen=True)
class Memory:
    """What is remembered of one rule."""

    #: The newest window that it was asked about, and the memory before that.
    at: int = -1
    before: Memory | None = None
    #: Windows in a row that were bad, that were good.
    bad: int = 0
    good: int = 0
    #: The start of the first window of the bad ones in a row; of the alert, while one is raised.
    since: int = 0
    #: The id of the alert that is raised; "" when none is.
    raised: str = ""
    #: Somebody has been told of it.
    told: bool = True
    #: (subject, statistic, slice) of the figure that it was raised for.
    top: tuple[str, str, str] = ("", "", "")

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Memory:
        """The inverse of :meth:`to_json`."""
        before = None if values["before"] is None else cls.from_json(values["before"])
        return cls(**{**values, "before": before, "top": tuple(values["top"])})


@dataclass(frozen=True)
class Service:
    """Whose alerts these are."""

    name: str
    model: str
    config: str = "CONFIG"
    #: The version that is configured: that of an alert about a window in which nothing was answered.
    version: str = ""


@dataclass(frozen=True)
class Raised:
    """The outcome of a window: what is remembered by subject, whom to tell what, and what was raised only now (its actions are due)."""

    memory: Mapping[str, Memory]
    alerts: tuple[Alert, ...] = ()
    new: tuple[Alert, ...] = field(default_factory=tuple)


def judge(
    record: Record, rules: Sequence[Rule], memory: Mapping[str, Memory], service: Service, *, silence: Sequence[Silence] = (), now: datetime
) -> Raised:
    """Hold a published window against the rules. A revision of the newest window is judged in its place; one of an older window, not."""
    after, alerts, new = dict(memory), [], []
    for rule in rules:
        old = memory.get(rule.on, Memory())
        if record.start < old.at or not _says_something(record, rule):
            continue
        base = replace(old.before, before=None) if record.start == old.at and old.before is not None else old
        step = _step(base, record, rule)
        if record.start == old.at and old.raised and not step.raised:
            step = old  # a revision ends nothing
        quiet = silenced(rule.on, silence, now)
        became = bool(step.raised) and step.raised != old.raised
        over = bool(old.raised) and not step.raised
        told = (step.told or not quiet) if step.raised else True
        if became or (step.raised and not old.told and not quiet):
            alert = _alert(record, rule, step, service, state="raised", quiet=quiet, now=now)
            alerts.append(alert)
            new += [alert] if became else []
            told = not quiet
        if over:
            alerts.append(_alert(record, rule, old, service, state="over", quiet=quiet, now=now))
        after[rule.on] = replace(step, at=record.start, before=replace(base, before=None), told=told)
    return Raised(after, tuple(alerts), tuple(new))


def _says_something(record: Record, rule: Rule) -> bool:
    """A window without labels says nothing of quality, and one with too few rows nothing at all; rejected events are counted by themselves."""
    told = any(m.kind == KINDS[rule.on] and m.threshold is not None for m in record.measures)
    return told and (record.judged or rule.on == "rejected")


def _step(before: Memory, record: Record, rule: Rule) -> Memory:
    drifted = record.drifted(KINDS[rule.on])
    if drifted:
        top = drifted[0]
        since = before.since if before.bad or before.raised else record.start
        bad = before.bad + 1
        raised = before.raised or (f"{rule.on}-{record.start}" if bad >= rule.after else "")
        told = before.told if before.raised else not raised
        return replace(before, bad=bad, good=0, since=since, raised=raised, told=told, top=(top.subject, top.statistic, top.slice))
    if not before.raised:
        return replace(before, bad=0, good=0)
    good = before.good + 1 if _excess(record, KINDS[rule.on], before.top) < BELOW else 0
    over = good >= rule.clear_after
    return replace(before, bad=0, good=good, raised="" if over else before.raised)


def _excess(record: Record, kind: str, top: tuple[str, str, str]) -> float:
    """How many times its threshold the figure is that the alert was raised for."""
    own = (m for m in record.measures if m.kind == kind and (m.subject, m.statistic, m.slice) == tuple(top))
    return max((m.excess for m in own), default=0.0)


def _alert(record: Record, rule: Rule, step: Memory, service: Service, *, state: str, quiet: bool, now: datetime) -> Alert:
    figures = tuple(greatest(record.drifted(KINDS[rule.on]))[:_SHOWN])
    start = iso(record.start)
    return Alert(
        id=step.raised, state=state, on=rule.on, severity=rule.severity, service=service.name, model=service.model,
        model_version=record.model_version or service.version, since=iso(step.since), window_start=start, window_end=iso(record.end),
        says=sentence(rule.on, figures, state), next=f"streaming drift {service.config} --window {start}", figures=figures,
        at=iso(round(now.timestamp() * 1000)), do=rule.do if state == "raised" else (), silenced=quiet,
    )  # fmt: skip


def greatest(drifted: Sequence[Measure]) -> list[Measure]:
    """Of each subject its greatest figure, of its slices only those that stand alone. `drifted`: of one kind, the greatest excess first."""
    alone = standing_alone([(m.subject, m.statistic, m.slice, m.value) for m in drifted])
    by_subject: dict[tuple[str, str], Measure] = {}
    for m, named in zip(drifted, alone, strict=True):
        if named:
            by_subject.setdefault((m.subject, m.slice), m)
    return list(by_subject.values())


def sentence(on: str, figures: Sequence[Measure], state: str) -> str:
    """What an alert says."""
    what = on.replace("_", " ")
    if state == "over":
        return "concept drift: the loss rises no further" if on == "concept_drift" else f"{what} is over"
    if not figures:
        return f"{what} goes on"
    subjects = list(dict.fromkeys(filter(None, (f"{f.subject}{' where ' + f.slice if f.slice else ''}" for f in figures))))
    first = figures[0]
    sure = "" if first.p is None else f", by chance {chance(first.p)}"
    value = (
        f"{first.statistic} {first.value:.3g}, threshold {first.threshold:.3g}{sure}" if first.threshold is not None else first.statistic
    )
    return f"{what}{': ' + ', '.join(subjects) if subjects else ''} ({value})"


def silenced(on: str, silence: Iterable[Silence], now: datetime) -> bool:
    """Whether nobody is to be told now."""
    return any((not s.on or on in s.on) and _inside(s, now.astimezone(UTC)) for s in silence)


def _inside(silence: Silence, now: datetime) -> bool:
    if len(silence.start) <= 5:
        start, until, at = time.fromisoformat(silence.start), time.fromisoformat(silence.until), now.time()
        return start <= at < until if start <= until else at >= start or at < until
    start_at, until_at = (datetime.fromisoformat(x) for x in (silence.start, silence.until))
    aware = (x if x.tzinfo is not None else x.replace(tzinfo=UTC) for x in (start_at, until_at))
    return next(aware) <= now < next(aware)
