"""A plain Python consumer, confluent-kafka and json, with scikit-learn or ONNX Runtime: polled in batches, nothing checked.

    python -m benchmarks.systems.plain sklearn|onnx SERVERS EVENTS OUT FOLDER HOME TRIGGER [SHARE/OF]

No rejected rows, no vetting, no state. It takes what there is, at most 1,000 records, scores them in one call and writes
the same records as the score lane. While events come slowly a batch is whatever came since the last.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks import linear
from benchmarks.systems.base import Place, Script, place

_BATCH = 1_000
#: As librdkafka's documentation says for throughput, at no more than this for latency.
_PRODUCER = {"linger.ms": 5, "batch.num.messages": 10_000, "queue.buffering.max.messages": 500_000, "compression.type": "lz4"}

SKLEARN = Script("plain consumer + scikit-learn, batches", "plain", ("sklearn",), needs=("sklearn", "confluent_kafka"))
SKLEARN_TWO = Script("plain consumer + scikit-learn, 2 processes", "plain", ("sklearn",), needs=("sklearn", "confluent_kafka"), processes=2)
ONNX = Script("plain consumer + ONNX Runtime, batches", "plain", ("onnx",), needs=("onnxruntime", "confluent_kafka"))
ONNX_TWO = Script("plain consumer + ONNX Runtime, 2 processes", "plain", ("onnx",), needs=("onnxruntime", "confluent_kafka"), processes=2)

#: Events of a batch -> the probabilities of both classes, shape (n, 2)
Score = Callable[[list[dict[str, Any]]], np.ndarray]


def by_sklearn(at: Place) -> Score:
    """One-hot, scaler and logistic regression, over a pandas frame."""
    import pandas as pd

    model = linear.frame_pipeline(linear.load(at.home))
    return lambda events: model.predict_proba(pd.DataFrame(events))


def session(path: Path) -> Any:
    """An ONNX Runtime session with one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def by_onnx(at: Place) -> Score:
    """The pipeline as a package: its own scorer.py over ONNX Runtime, fed with columns."""
    from streaming.scorers import standalone

    scorer = standalone.Scorer(at.home / "package")
    kinds = scorer.inputs()

    def score(events: list[dict[str, Any]]) -> np.ndarray:
        types = {"number": np.float64, "text": object}
        columns = {name: np.array([event[name] for event in events], dtype=types[kind]) for name, kind in kinds.items()}
        said = scorer.score(columns).probability
        assert said is not None
        return said

    return score


def answer(record: Message, event: dict[str, Any], p: list[float]) -> bytes:
    """The prediction as the score lane writes it."""
    said = {
        "event_id": f"{record.topic()}:{record.partition()}:{record.offset()}",
        "key": event["customer_id"],
        "event_time": event["event_time"],
        "model": "churn",
        "model_version": "1",
        "prediction": float(p[1] > 0.5),
        "probability": p,
    }
    return json.dumps(said).encode()


def readers(at: Place, share: str) -> Consumer:
    """A consumer of this process's share of the partitions, from the first record on."""
    mine, of = map(int, share.split("/"))
    reader = Consumer({"bootstrap.servers": at.servers, "group.id": at.out, "enable.auto.commit": False, "log_level": 2})
    partitions = reader.list_topics(at.events, timeout=30).topics[at.events].partitions
    reader.assign([TopicPartition(at.events, partition, 0) for partition in sorted(partitions) if partition % of == mine])
    return reader


def serve(at: Place, score: Score, share: str) -> None:
    """Read, score and write until told to stop."""
    reader, sink = readers(at, share), Producer({"bootstrap.servers": at.servers, "log_level": 2, **_PRODUCER})
    while True:
        records = reader.consume(_BATCH, timeout=0.005)
        if not records:
            sink.poll(0)
            continue
        events = [json.loads(record.value()) for record in records]
        for record, event, p in zip(records, events, score(events).tolist(), strict=True):
            _send(sink, at.out, event["customer_id"].encode(), answer(record, event, p))
        sink.poll(0)


def _send(sink: Producer, topic: str, key: bytes, value: bytes) -> None:
    while True:
        try:
            return sink.produce(topic, key=key, value=value)
        except BufferError:
            sink.poll(0.01)


def main() -> None:
    """Score the share of the partitions that the command line names."""
    kind, *rest = sys.argv[1:]
    share = rest.pop() if re.fullmatch(r"\d+/\d+", rest[-1]) else "0/1"
    at = place(rest)
    serve(at, {"sklearn": by_sklearn, "onnx": by_onnx}[kind](at), share)


if __name__ == "__main__":
    main()
