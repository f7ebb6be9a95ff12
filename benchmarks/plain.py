"""The plain Python consumer that the score lane is compared with: confluent-kafka, json, pandas, scikit-learn, no Spark.

Run by benchmarks.drain: `python -m benchmarks.plain SERVERS OUT TABLE PARTITION…`. It reads the partitions of the events
topic to their ends, 1,000 records at a time, and writes the same records as the score lane. Nothing is checked: no
rejected rows, no vetting, no state.
"""

from __future__ import annotations

import json
import sys

import pandas as pd
from confluent_kafka import TopicPartition
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks import harness
from streaming.demo import churn

_BATCH = 1_000


def train(table: str) -> Pipeline:
    """The pipeline of the job in scikit-learn's terms: one-hot, scaler, logistic regression, on the same table."""
    rows = pd.read_parquet(table)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), list(churn.CATEGORICAL)), (StandardScaler(), list(churn.NUMERIC))
    )
    return make_pipeline(columns, LogisticRegression(max_iter=500)).fit(rows, (rows["churn"] == "Yes").astype(int))


def main() -> None:
    """Score the given partitions from first to last record."""
    servers, out, table, *partitions = sys.argv[1:]
    model = train(table)
    reader, sink = harness.consumer(servers), harness.Sink(harness.client(servers))
    places = [TopicPartition(harness.EVENTS, int(partition), 0) for partition in partitions]
    left = sum(reader.get_watermark_offsets(place, timeout=30)[1] for place in places)
    reader.assign(places)
    while left > 0:
        found = reader.consume(min(left, _BATCH), timeout=30)
        if not found:
            sys.exit(f"{left} events did not come within 30 s")
        left -= len(found)
        events = [json.loads(record.value()) for record in found]
        probabilities = model.predict_proba(pd.DataFrame(events))
        for record, event, p in zip(found, events, probabilities, strict=True):
            answer = {
                "event_id": f"{record.topic()}:{record.partition()}:{record.offset()}",
                "key": event["customer_id"],
                "event_time": event["event_time"],
                "model": "churn",
                "model_version": "1",
                "prediction": float(p[1] > 0.5),
                "probability": p.tolist(),
            }
            sink.send(out, key=event["customer_id"].encode(), value=json.dumps(answer).encode())
    sink.flush()


if __name__ == "__main__":
    main()
