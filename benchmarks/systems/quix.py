"""Quix Streams with the equivalent scikit-learn model: one call of the model for each event, as its guides show.

    python -m benchmarks.systems.quix SERVERS EVENTS OUT FOLDER HOME TRIGGER

Tuned as its documentation says: at-least-once (the default), rarer commits, the producer's linger and batches as
librdkafka's. A DictVectorizer takes the event as it is, without a data frame for each event.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks import linear
from benchmarks.systems.base import Script, place

QUIX = Script("Quix Streams + scikit-learn", "quix", needs=("quixstreams", "sklearn"), group="bench-quix")


def main() -> None:
    """Score until told to stop."""
    from quixstreams import Application, message_context

    at = place(sys.argv[1:])
    model = linear.dict_pipeline(linear.load(at.home))
    app = Application(
        broker_address=at.servers,
        consumer_group=at.out,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_interval=5.0,
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4"},
        loglevel="WARNING",
    )

    def score(event: dict[str, Any]) -> dict[str, Any]:
        context = message_context()
        p = model.predict_proba([event])[0].tolist()
        return {
            "event_id": f"{context.topic}:{context.partition}:{context.offset}",
            "key": event["customer_id"],
            "event_time": event["event_time"],
            "model": "churn",
            "model_version": "1",
            "prediction": float(p[1] > 0.5),
            "probability": p,
        }

    events = app.topic(at.events, value_deserializer="json", key_deserializer="bytes")
    app.dataframe(events).apply(score).to_topic(app.topic(at.out, value_serializer="json", key_serializer="bytes"))
    app.run()


if __name__ == "__main__":
    main()
