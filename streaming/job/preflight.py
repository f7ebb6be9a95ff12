"""What has to be true before the job starts: the same checks serve `streaming check`, which shows all of them, and
`streaming serve`, which stops at the first that fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from streaming import adapters, monitor
from streaming import config as cfg
from streaming.config.sections import SavedModel
from streaming.config.values import seconds
from streaming.errors import ConfigError, EnvironmentFailure, StateError, StreamingError, TransientError
from streaming.job import owner, topics
from streaming.kafka import admin
from streaming.lanes import learn
from streaming.learning import labels, origin, state_file
from streaming.learning.teach import Learning, open_learners
from streaming.models.base import Model
from streaming.models.spark.makers import made_by
from streaming.models.spark.pipeline import SparkModel
from streaming.online.weights import Weights
from streaming.records.schema import event_columns, event_schema
from streaming.records.schema import field as field_at
from streaming.runtime import files, model_versions
from streaming.stores.base import Store

log = logging.getLogger(__name__)

#: Slots beside the real-time ones: two shuffle tasks for each of two micro-batch lanes.
OTHER_SLOTS: Final = 4


@dataclass
class Ready:
    """What the checks found on their way: all that the lanes need to start."""

    spark: SparkSession
    config: cfg.Config
    lanes: Collection[str]
    source: str
    partitions: dict[str, int] = field(default_factory=dict)
    #: Which topics these are, whatever they are called: topic -> id.
    topic_ids: dict[str, str] = field(default_factory=dict)
    schema: StructType = field(default_factory=StructType)
    model: Model | None = None
    mode: str = ""
    store: Store | None = None
    learning: list[Learning] = field(default_factory=list)
    label_schema: StructType = field(default_factory=StructType)
    #: The prepared monitor lane, see streaming.lanes.monitor.prepare; None: it does not run.
    monitor: Any = None


@dataclass(frozen=True)
class CheckOutcome:
    """The result of one check. `detail`: what it found; when it failed, what to do, or which check has to pass first."""

    name: str
    ok: bool
    detail: str


def demand(spark: SparkSession, config: cfg.Config, *, lanes: Collection[str], source: str) -> Ready:
    """Run the checks, and when all is well write down what this state belongs to; returns what the lanes need.

    Raises the error of the first check that fails: nothing is written down then, and a version that was never served can be made anew.

    What only one lane waits for, and what may come by itself, keeps no other lane from starting: it is a warning.
    """
    ready = Ready(spark, config, lanes, source)
    for check in _for(lanes):
        try:
            check.run(ready)
        except TransientError as error:
            if not check.may_come_later:
                raise
            log.warning(
                "%s: %s; the lane %s starts when it is there, the others do not wait", check.name, " ".join(str(error).split()), check.lane
            )
    sha256 = getattr(ready.model, "fingerprint", None)
    owner.write_down(files.folder(config.state, lambda: spark), config, ready.topic_ids, sha256=sha256)
    return ready


def _for(lanes: Collection[str]) -> list[Check]:
    return [check for check in CHECKS if check.lane is None or check.lane in lanes]


def survey(spark: SparkSession, config: cfg.Config, *, lanes: Collection[str], source: str, show: Callable[[CheckOutcome], None]) -> bool:
    """Run every check that can be run, show each outcome as it comes; True when all are well. Of the state nothing is written."""
    ready = Ready(spark, config, lanes, source)
    failed: set[str] = set()
    for check in _for(lanes):
        blocked = [name for name in check.needs if name in failed]
        if blocked:
            outcome = CheckOutcome(check.name, False, f"not checked: first mend {' and '.join(blocked)}")
        else:
            outcome = _attempt(check, ready)
        if not outcome.ok:
            failed.add(check.name)
        show(outcome)
    return not failed


def _attempt(check: Check, ready: Ready) -> CheckOutcome:
    try:
        return CheckOutcome(check.name, True, check.run(ready))
    except StreamingError as error:
        return CheckOutcome(check.name, False, str(error))


def slots_of(context: SparkContext) -> int:
    """How many tasks run at once: a local master says it; of a cluster Spark's own figure is taken, which may be set to something else."""
    local = re.fullmatch(r"local\[(\d+)(?:,\d+)?\]", str(context.master))
    return int(local[1]) if local else int(context.defaultParallelism)


def slots_needed(partitions: int, mode: str) -> int:
    """Task slots the lanes need at once: real-time mode holds one for each partition of the events topic, for ever."""
    return (partitions if mode == "realtime" else 0) + OTHER_SLOTS


#: When a lane needs a topic that is not for all of them.
_NEEDED: Final[dict[str, Callable[[Ready], bool]]] = {
    "events": lambda ready: "score" in ready.lanes,
    "shadow": lambda ready: bool(ready.config.learners),
    "labels": lambda ready: "learn" in ready.lanes or monitor.LANE in ready.lanes,
    "monitor": lambda ready: monitor.LANE in ready.lanes,
    "alerts": lambda ready: monitor.LANE in ready.lanes,
}


def _topics(ready: Ready) -> str:
    config = ready.config
    unused = {role for role, needed in _NEEDED.items() if not needed(ready)}
    wanted = [topic for role, topic in config.topics().items() if role not in unused]
    there = admin.partitions(ready.spark, config.kafka, wanted)
    missing = [topic for topic in wanted if topic not in there]
    if missing:
        raise ConfigError(
            f"Kafka at {config.kafka.bootstrap_servers}: no topic {', '.join(missing)}; create what is missing with: streaming topics {ready.source}"
        )
    ready.partitions = there
    said = ", ".join(f"{topic} ({n} partition{'s' if n > 1 else ''})" for topic, n in there.items())
    return said + topics.narrow(ready.spark, config, there)


def _schema(ready: Ready) -> str:
    ready.schema = event_schema(ready.spark, ready.config.events, source=ready.source)
    return f"{len(ready.schema.fields)} fields, key {ready.config.events.key}, time {ready.config.events.time or 'of the Kafka record'}"


def _model(ready: Ready) -> str:
    section = ready.config.model
    ready.model = cast(Model, adapters.model_of(section.format).load(section, ready.spark))
    if sha256 := getattr(ready.model, "fingerprint", None):
        state = files.folder(ready.config.state, lambda: ready.spark)
        model_versions.agree(state, model=section.name, version=section.version, sha256=sha256, uri=section.uri)
    return f"{section.name} version {section.version}, format {section.format}, vetted"


def _columns(ready: Ready) -> str:
    from streaming.models.columns import mismatches

    assert ready.model is not None
    seen = event_columns(ready.schema, ready.config.events)
    wrong = mismatches(ready.model.inputs(), seen)
    if wrong:
        raise ConfigError(
            f"{ready.source}: events.schema does not fit the model: {'; '.join(wrong)}; mend events.schema, or lift a nested field with events.columns"
        )
    return f"the event has all {len(ready.model.inputs().fields)} columns that the model reads{_folding(ready.model, seen)}"


def _folding(model: Model, seen: StructType) -> str:
    """Whether the model is one plain expression, in words."""
    if not isinstance(model, SparkModel):
        return ""
    decided = model.folding(seen)
    return "; folded into one expression" if decided.folded is not None else f"; not folded, so slower: {decided.why_not}"


def _mode(ready: Ready) -> str:
    assert ready.model is not None
    asked = ready.config.score.mode
    by_python = [f"the learner {name} is computed in Python" for name in state_file.names(ready.config.learners)]
    why_not = "; ".join([*ready.model.why_not_jvm, *by_python])
    if not why_not:
        ready.mode = asked or "realtime"
    elif asked == "realtime":
        raise ConfigError(f"{ready.source}: score.mode: realtime is not possible: {why_not}; set score.mode: microbatch")
    else:
        ready.mode = "microbatch"
    if ready.mode == "realtime" and ready.config.score.trigger is not None and seconds(ready.config.score.trigger) < 5:
        raise ConfigError(
            f"{ready.source}: score.trigger: got {ready.config.score.trigger}; real-time mode commits at most every 5 seconds"
        )
    return ready.mode + (f": real-time mode is not possible: {why_not}" if why_not else "")


def slots(ready: Ready) -> str:
    n = ready.partitions.get(ready.config.events.topic, 0)
    needed = slots_needed(n, ready.mode or "microbatch")
    have = slots_of(ready.spark.sparkContext)
    if have < needed:
        raise EnvironmentFailure(
            f"Spark has {have} task slots at {ready.spark.sparkContext.master}; the lanes need {needed}: {OTHER_SLOTS} and, in real-time mode, one for "
            f"each of the {n} partitions of {ready.config.events.topic}; give it more (--master local[{needed}], or more executor cores), "
            "or set score.mode: microbatch"
        )
    return f"{have} task slots, {needed} needed"


def on_cluster(spark: SparkSession) -> bool:
    """True when executors may run on other machines than the driver."""
    return not str(spark.sparkContext.master).startswith("local")


def _state(ready: Ready) -> str:
    config, where = ready.config, ready.config.state
    shared = {"state": where, **({"model.uri": config.model.uri} if "score" in ready.lanes else {})}
    local = [f"{key} ({uri})" for key, uri in shared.items() if files.is_local(uri)]
    if on_cluster(ready.spark) and local:
        raise ConfigError(
            f"{ready.source}: {', '.join(local)}: a path on one machine, but driver and executors of a cluster must all reach it; "
            "put it on hdfs://, s3a:// or the like"
        )
    if ready.partitions:
        ready.topic_ids = admin.ids(ready.spark, config.kafka, ready.partitions)
    owner.agree(files.folder(where, lambda: ready.spark), config, ready.topic_ids)
    return f"{where}: belongs to {config.name}"


def _learners(ready: Ready) -> str:
    """Learners with their states, and how their labels are decoded."""
    config = ready.config
    if not config.learners:
        return "none"
    assert config.labels is not None
    if ready.model is not None and not isinstance(ready.model, SparkModel):
        raise ConfigError(
            f"{ready.source}: learners: a model of format {config.model.format} gives no features to learn from; use a Spark ML pipeline, or leave them out"
        )
    if config.labels.topic is not None:
        ready.label_schema = event_schema(ready.spark, labels.label_events(config.labels), source=f"{ready.source}: labels")
    elif ready.schema.fields and field_at(ready.schema, str(config.labels.field)) is None:
        raise ConfigError(f"{ready.source}: labels.field: the event schema has no field {config.labels.field!r}")
    state = files.folder(config.state, lambda: ready.spark)
    checkpoint = state.below("checkpoints").below(learn.LANE)
    if origin.are_lost(checkpoint, state.below("learners")):
        raise StateError(
            f"{config.state}: the learn lane has a checkpoint, but the states of its learners (learners/) are gone; going on would silently "
            "start them anew; restore the folder, or delete checkpoints/learn too to learn again from the topics' start"
        )
    warm = {section.name: _warm(ready, section.warm_start) for section in config.learners if section.warm_start is not None}
    features = None if ready.model is None else made_by(ready.model)
    ready.learning = open_learners(config, state, warm=warm, source=ready.source, features=features)
    for learning in ready.learning:
        learning.tie(origin.query_of(checkpoint))
    named = ", ".join(f"{section.name} ({section.algorithm}, {section.role})" for section in config.learners)
    width = int(getattr(ready.model.fitted, "numFeatures", 0)) if isinstance(ready.model, SparkModel) else 0
    return named + topics.features_fit(width, config.kafka, source=ready.source)


def features_of(config: cfg.Config, spark: SparkSession) -> str | None:
    """The fingerprint of what makes the features of the configured model."""
    return made_by(cast(Model, adapters.model_of(config.model.format).load(config.model, spark)))


def _warm(ready: Ready, where: str) -> Weights:
    """The weights a learner starts from: of the saved pipeline's own last stage, or of a fitted model at a URI."""
    from streaming.models.spark import learned, pipeline

    section = ready.config.model if where == "model" else SavedModel(name="warm-start", version="0", uri=where)
    return learned.of_stage(pipeline.last_stage(pipeline.load(section, ready.spark)))


def _store(ready: Ready) -> str:
    section = ready.config.store
    if section.kind == "sqlite" and on_cluster(ready.spark):
        raise ConfigError(f"{ready.source}: store.kind: sqlite is a file on one machine; on a cluster use postgres, redis or delta")
    store = store_of(ready)
    durability = getattr(store, "durability", None)
    return f"{section.kind}, {store.count()} rows" + (f"; {durability()}" if durability is not None else "")


def store_of(ready: Ready) -> Store:
    """The operational store, prepared the first time that it answers. StoreUnavailable while it does not, StoreError when it does not fit."""
    if ready.store is None:
        section = ready.config.store
        store = cast(Store, adapters.load(section.kind, adapters.STORES).open(section, ready.spark))
        store.prepare()
        ready.store = store
    return ready.store


def _monitor(ready: Ready) -> str:
    lane = adapters.load("monitor", adapters.PARTS)
    ready.monitor = lane.prepare(ready.config, ready.spark, source=ready.source)
    return str(ready.monitor)


@dataclass(frozen=True)
class Check:
    """One thing that has to be true: `run` returns what it found, or raises a StreamingError that says what to do."""

    name: str
    run: Callable[[Ready], str]
    needs: tuple[str, ...] = ()
    #: The lane that needs it; None: every job.
    lane: str | None = None
    #: Whether that lane can be started without it, and tried again until it is there.
    may_come_later: bool = False


CHECKS: Final = (
    Check("broker and topics", _topics),
    Check("event schema", _schema, lane="score"),
    Check("model", _model, lane="score"),
    Check("model columns", _columns, ("event schema", "model"), lane="score"),
    Check("mode", _mode, ("model",), lane="score"),
    Check("task slots", slots, ("broker and topics",)),
    Check("state", _state),
    Check("learners", _learners, ("state", "model")),
    Check("store", _store, lane="store", may_come_later=True),
    Check("monitor", _monitor, ("state",), lane=monitor.LANE),
)
