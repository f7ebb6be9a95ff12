"""The SCORE lane: events in, predictions and rejected records out, in one query with one sink.

At least once: after a crash up to one trigger of events is scored again, and a repeat carries the same `event_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.types import StructType

from streaming.config.load import Config
from streaming.config.values import interval
from streaming.kafka import write
from streaming.lanes.counted import counted
from streaming.learning import live_weights, state_file, weights_file
from streaming.models.base import Model
from streaming.records import predictions, rejected
from streaming.records.events import decode, say
from streaming.records.schema import META, PROBLEM, field_column

LANE: Final = "score"

#: A minute between commits bounds what a crash scores again; every commit stalls the output for about 0.3 s.
DEFAULT_TRIGGER: Final = {"realtime": "1 minute", "microbatch": "0 seconds"}

#: What Kafka's producer does unless kafka.options says otherwise. A micro-batch writes a whole batch at once and gains by
#: full requests; real-time mode sends each answer as it comes.
PRODUCER: Final = {
    "realtime": {},
    "microbatch": {"kafka.linger.ms": "20", "kafka.batch.size": "262144"},
}

#: A byte of text takes up to six in JSON (\\u0000), and all the short fields of a prediction together this much: an event_id of 280, names of 100, times, numbers, and the names of the fields.
_JSON_LETTER: Final = 6
_SHORT_FIELDS: Final = 1024


def score(
    records: DataFrame, config: Config, schema: StructType, model: Model, *, weights: DataFrame | None = None, live: Column | None = None
) -> DataFrame:
    """Kafka records as records to write, with columns topic, key, value, headers.

    A scored event becomes one record for each model under its entity key: the champion's on the predictions topic,
    the others' on the shadow topic. An event that cannot be decoded or scored becomes one record on the rejected
    topic, with its original bytes and the reason in the headers. `weights`: the frame of the weights file, when
    there are learners; `live`: newer content of the file, or null (streaming.learning.live_weights).
    """
    scored = model.transform(decode(records, config.events, schema))
    if model.runs_in_jvm:  # a plan with Python in it cannot be optimized twice
        scored = optimized(scored)
    if config.learners:
        assert weights is not None
        # A join on a constant would be planned as a nested loop, which real-time mode refuses; `topic` is a real column.
        joined = scored.join(F.broadcast(weights), F.col(f"{META}.topic") == F.col("_topic"), "left")
        if live is not None:
            joined = joined.withColumn("_learners", F.coalesce(live, "_learners"))
        by_python = state_file.names(config.learners)
        scored = weights_file.score(joined, [learner.name for learner in config.learners if learner.name not in by_python])
        if by_python:
            unjoined = scored.drop("_topic", "_learners")
            scored = state_file.score(unjoined, [learner for learner in config.learners if learner.name in by_python], config.state)
    return encode(scored, config, schema)


def optimized(frame: DataFrame) -> DataFrame:
    """The same frame, with Spark's optimizer run over it once: what it folds together now, it need not fold at every micro-batch."""
    session: Any = frame.sparkSession._jsparkSession
    jvm: Any = frame.sparkSession._jvm
    analyzed: Any = frame._jdf.queryExecution().analyzed()
    plan = session.sessionState().optimizer().execute(analyzed)
    return DataFrame(jvm.org.apache.spark.sql.classic.Dataset.ofRows(session, plan), frame.sparkSession)


def judged(scored: DataFrame, *further: Column) -> DataFrame:
    """Scored rows, `_problem` filled in where the model failed: null now means that there is a prediction. `further`: what else is wrong."""
    failed = F.when(F.col("error").isNotNull(), F.struct(F.lit("pipeline_failure").alias("reason"), F.col("error")))
    return scored.withColumn(PROBLEM, F.coalesce(PROBLEM, failed, *further))


def encode(scored: DataFrame, config: Config, schema: StructType) -> DataFrame:
    """Scored rows as Kafka records. `scored`: decoded events with a model's outputs and the learners' answers."""
    e, problem = F.col(META), F.col(PROBLEM)
    said = _answers(config, schema)
    rows = counted(judged(scored, _too_large(config, said.values())), LANE, problem=problem, stamp=e["timestamp"])
    refused = rejected.record(config, source=e, problem=problem, lane=LANE)
    answers = [_record(config, model, fields) for model, fields in said.items()]
    records = F.when(problem.isNull(), F.array(*answers)).otherwise(F.array(refused))
    return rows.select(F.explode(records).alias("record")).select("record.*")


def _too_large(config: Config, answers: Iterable[Mapping[str, Column]]) -> Column:
    """What is wrong with an event whose answers would not fit into a record, STRUCT<reason, error>; null on every other.

    Everything in an answer is short but the entity's key, which stands there twice, and the arrays. A good row costs their
    lengths alone: JSON is made to be measured only where the longest that they could become does not fit.
    """
    key, room = F.col(META)["key"], write.room(config.kafka)
    arrays = [said["probability"] for said in answers] + ([F.col("features")] if config.learners else [])
    longest, n = _JSON_LETTER * F.octet_length(key), F.octet_length(key)
    for array in arrays:
        longest = longest + predictions.LONGEST_NUMBER * F.coalesce(F.size(array), F.lit(0))
    written = F.octet_length(F.to_json(F.struct(key.alias("key"), *(array.alias(f"a{i}") for i, array in enumerate(arrays)))))
    left = room - _SHORT_FIELDS - predictions.TRACE_BYTES - _JSON_LETTER * len(config.model.version)
    words = f"the prediction would be longer than the {room} bytes of a record (kafka.options, max.request.size): its key or its features are too long"
    return F.when(longest + n > left, F.when(written + n > left, say("too_large", words)))


def _answers(config: Config, schema: StructType) -> dict[str, dict[str, Column]]:
    """What each model says of an event: the fields of a prediction that differ from model to model."""
    saved = {
        "model_version": F.lit(config.model.version),
        "prediction": F.col("prediction"),
        "probability": F.col("probability"),
    }
    answers = {config.model.name: saved}
    for learner in config.learners:
        answer = F.col(weights_file.column(learner.name))
        answers[learner.name] = {
            "model_version": answer["version"],
            "prediction": answer["prediction"],
            "probability": answer["probability"],
            "features": F.col("features"),
        }
        if config.labels is not None and config.labels.field is not None:
            answers[learner.name]["label"] = _own_label(field_column(schema, config.labels.field))
    return answers


def _own_label(given: Column) -> Column:
    """The label that an event carries, as DOUBLE; NaN for one that is no number, so that LEARN rejects it and SCORE goes on."""
    number = given.try_cast("double")
    return F.coalesce(number, F.when(given.isNotNull(), F.lit(float("nan"))))


def _record(config: Config, model: str, answer: dict[str, Column]) -> Column:
    """A prediction of `model` as a Kafka record; null fields are left out of the JSON."""
    e = F.col(META)
    fields = {
        "event_id": predictions.event_id(e),
        "key": e["key"],
        "event_time": e["event_time"],
        "model": F.lit(model),
        **answer,
    }
    return F.struct(
        F.lit(config.topic_of(model)).alias("topic"),
        e["key"].cast("binary").alias("key"),
        predictions.write(fields).cast("binary").alias("value"),
        predictions.trace(e["headers"]).alias("headers"),
    )


def trigger_of(config: Config, mode: str) -> str:
    """How long a batch lasts (realtime), or the pause between two of them (microbatch)."""
    return config.score.trigger or DEFAULT_TRIGGER[mode]


def start(
    records: DataFrame, config: Config, schema: StructType, model: Model, *, mode: str, weights: DataFrame | None = None
) -> StreamingQuery:
    """Start the lane's query on a stream of Kafka records. `mode`: realtime or microbatch."""
    trigger = interval(trigger_of(config, mode))
    # A micro-batch reads the file anew anyway, and all its rows see one version.
    live = live_weights.learners(records.sparkSession, config.state) if mode == "realtime" and weights is not None else None
    written = score(records, config, schema, model, weights=weights, live=live)
    writer = (
        write.stream(written, config.kafka, defaults=PRODUCER[mode])
        .option("checkpointLocation", f"{config.state}/checkpoints/{LANE}")
        .queryName(f"{config.name}-{LANE}")
        .outputMode("update")
    )
    if mode == "realtime":
        writer = writer.trigger(realTime=trigger)  # type: ignore[call-overload]
    else:
        writer = writer.trigger(processingTime=trigger)
    return writer.start()
