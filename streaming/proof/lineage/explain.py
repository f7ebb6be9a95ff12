"""Why an event got the answer it got: the event, the answers then, the model now, and whether it answers the same again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, cast

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from streaming import adapters
from streaming.config.load import Config
from streaming.errors import ModelError, StreamingError
from streaming.lanes import score
from streaming.learning import versions
from streaming.learning.state_log import WARM, Snapshot
from streaming.models import provenance
from streaming.models.base import Model
from streaming.proof.lineage import topics
from streaming.proof.lineage.topics import GivenAnswer
from streaming.records.predictions import Place
from streaming.records.schema import event_schema

#: Largest difference that counts as equal. The lane and the proof add in different orders where a learner answers.
TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Compared:
    """One answer that was given, and the same asked again."""

    then: GivenAnswer
    #: None when it cannot be asked again; `words` then says why.
    now: GivenAnswer | None
    #: Largest difference of prediction and probability; None when there is nothing to compare, 0.0: equal bit for bit.
    difference: float | None
    words: str

    @property
    def reproduced(self) -> bool:
        """True when the same version gives the same answer."""
        same = self.now is not None and self.then.model_version == self.now.model_version
        return same and self.difference is not None and self.difference <= TOLERANCE


@dataclass(frozen=True)
class Explanation:
    """All that is known of one event's answers."""

    event_id: str
    #: When Kafka got the record, ISO 8601; and the record's value as text.
    recorded_at: str
    event: str
    #: One for each model that answered; for a rejected event one, with its reason.
    answers: Sequence[Compared]
    #: The rows of the store that come from this event, or why the store cannot say.
    stored: Sequence[Mapping[str, Any]]
    store: str
    model: provenance.Provenance
    #: What keeps the event from being reproduced, for people.
    problems: Sequence[str] = field(default=())

    @property
    def reproduced(self) -> bool:
        """True when every answer that was given is given again."""
        return bool(self.answers) and not self.problems and all(each.reproduced for each in self.answers)

    def tree(self) -> dict[str, Any]:
        """Plain values for JSON."""
        compared = [asdict(each) | {"reproduced": each.reproduced} for each in self.answers]
        return {**asdict(self), "answers": compared, "reproduced": self.reproduced}


def explain(config: Config, event_id: str, spark: SparkSession) -> Explanation:
    """Find the event and the answers it got, and ask for them again.

    ConfigError when `event_id` is no place on events.topic; StateError when the broker no longer has the event, or when
    two answers to it differ. A model that cannot be opened is a problem of the explanation, not an error.
    """
    schema = event_schema(spark, config.events)
    place = topics.place(event_id, config)
    record, stamp = topics.event(spark, config, place)
    given = topics.answers(spark, config, place, stamp)
    about = provenance.of(config.model, spark)
    problems = [] if about.matches else [f"the files of the model are not those that were recorded: {about.words}"]
    again: GivenAnswer | None = None
    try:
        again = _again(config, record, schema, spark)
    except ModelError as unfit:
        problems.append(str(unfit))
    stored, words = _stored(config, place, next((each.key for each in [*given, *([again] if again else [])] if each.key), None), spark)
    problems += _unlike(given, stored)
    given = given or [_of_store(row) for row in stored]
    if not given:
        problems.append("no answer was found on the topics from the event's time on: the job has not scored it yet, or the topics "
                        "no longer keep that long (retention)")  # fmt: skip
    compared = [_compared(config, each, again, spark) for each in given]
    value = record.select(_text()).first()
    text = str(value[0]) if value is not None else ""
    return Explanation(event_id, stamp.isoformat(), text, compared, stored, words, about, problems)


def _text() -> Column:
    """The record's value as text; bytes that are no text as hexadecimal."""
    plain = F.col("value").cast("string")
    return F.when(F.col("value").isNull(), "null (a tombstone)").when(F.is_valid_utf8(plain), plain).otherwise(F.hex("value"))


def _again(config: Config, record: DataFrame, schema: StructType, spark: SparkSession) -> GivenAnswer:
    """What the lane's own function says of the record now, with the saved model alone."""
    model = cast(Model, adapters.model_of(config.model.format).load(config.model, spark))
    alone = config.model_copy(update={"learners": (), "labels": None})
    (written,) = score.score(record, alone, schema, model).select("key", "value", "headers").toArrow().to_pylist()
    return topics.answer(written)


def _compared(config: Config, then: GivenAnswer, again: GivenAnswer | None, spark: SparkSession) -> Compared:
    if then.model in {learner.name for learner in config.learners}:
        return _by_learner(config, then, spark)
    if again is None:
        return Compared(then, None, None, "the model cannot be opened")
    if then.reason is not None or again.reason is not None:
        same = (then.reason, then.error) == (again.reason, again.error)
        said = "rejected again, for the same reason" if same else f"then {_fate(then)}, now {_fate(again)}"
        # The version of a rejected record is not recorded, so it cannot be another one.
        return Compared(then, again, 0.0 if same else math.inf, said)
    if then.model != again.model:
        return Compared(then, None, None, f"{then.model} is neither model.name nor a learner of this configuration")
    difference = _difference(then, again)
    if then.model_version != again.model_version:
        return Compared(then, again, difference, f"answered by version {then.model_version}, configured is {again.model_version}; to reproduce it "
                        f"put model.version and model.uri back to version {then.model_version}")  # fmt: skip
    return Compared(then, again, difference, _said(difference))


def _by_learner(config: Config, then: GivenAnswer, spark: SparkSession) -> Compared:
    """The version's state from the log, asked with the features that the record carries."""
    if then.model_version is None:
        return Compared(then, then, 0.0, "the learner had learned nothing yet, and said so")
    if then.features is None:
        return Compared(then, None, None, "the record has no features")
    try:
        learning = versions.learner(config, then.model, lambda: spark)
        start = learning.log.folder.read("start.npz") if then.model_version == WARM else None
        snapshot = Snapshot.from_bytes(start) if start is not None else learning.log.version(then.model_version)
    except StreamingError as gone:
        return Compared(then, None, None, str(gone))
    weights, features = learning.weights(snapshot), np.array([then.features])
    # A learner without weights (River) is asked itself, as the lane asks it.
    scored = learning.learner.score(learning.state_of(snapshot), features) if weights is None else weights.predict(features)
    probability = None if scored.probability is None else scored.probability[0].tolist()
    again = GivenAnswer(then.model, then.model_version, float(scored.prediction[0]), probability, key=then.key)
    difference = _difference(then, again)
    return Compared(then, again, difference, f"from the state of version {then.model_version}: {_said(difference)}")


def _stored(config: Config, place: Place, key: str | None, spark: SparkSession) -> tuple[list[dict[str, Any]], str]:
    """What the store holds that comes from this event, and a sentence about it."""
    if key is None:
        return [], "not asked: no prediction names a key"
    try:
        rows = adapters.load(config.store.kind, adapters.STORES).open(config.store, spark).get(key)
    except StreamingError as silent:
        return [], f"the store does not answer: {silent}"
    mine = [row for row in rows if row["event_id"] == place.id]
    if mine:
        return mine, f"{len(mine)} row(s) come from this event"
    return [], "holds answers to a newer event of this entity" if rows else "holds nothing of this entity"


def _unlike(given: Sequence[GivenAnswer], stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the store holds otherwise than the topics."""
    differences = []
    for kept in map(_of_store, stored):
        told = [each for each in given if (each.model, each.model_version) == (kept.model, kept.model_version)]
        differences += [f"the store holds another answer of {kept.model} than the topic" for each in told if _difference(each, kept) != 0.0]
    return differences


def _of_store(row: Mapping[str, Any]) -> GivenAnswer:
    return GivenAnswer(str(row["model"]), str(row["model_version"]), row["prediction"], row["probability"], key=str(row["key"]))


def _difference(a: GivenAnswer, b: GivenAnswer) -> float:
    """The largest difference of any number; infinite when one side has a number and the other none."""
    pairs = [(a.prediction, b.prediction)]
    mine, theirs = a.probability, b.probability
    if (mine is None) != (theirs is None) or (mine is not None and theirs is not None and len(mine) != len(theirs)):
        return math.inf
    pairs += list(zip(mine or (), theirs or (), strict=True))
    return max(math.inf if (x is None) != (y is None) else 0.0 if x is None or y is None else abs(x - y) for x, y in pairs)


def _said(difference: float) -> str:
    return "equal, bit for bit" if difference == 0.0 else f"largest difference {difference:.2g}"


def _fate(answer: GivenAnswer) -> str:
    return "predicted" if answer.reason is None else f"rejected ({answer.reason}: {answer.error})"
