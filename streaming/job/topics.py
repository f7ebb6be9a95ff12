"""What the job has to know of its topics beside their names: that they are still the same ones, and what they take."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from typing import Final

from pyspark.sql import SparkSession

from streaming.config.load import Config
from streaming.config.sections import Kafka
from streaming.errors import ConfigError, StateError
from streaming.kafka import admin, write
from streaming.records.predictions import LONGEST_NUMBER
from streaming.runtime.files import Folder

log = logging.getLogger(__name__)

#: In the state folder: topic -> the id that the broker gave it.
FILE: Final = "topics.json"

#: Bytes of a DOUBLE in JSON with its comma, at least: "0.0,".
_SHORTEST_NUMBER: Final = 4


def agree(folder: Folder, ids: Mapping[str, str], *, where: str) -> None:
    """See that these are the topics that were written down. StateError when one of them is another topic of the same name. Nothing is written.

    Offsets in checkpoints and event ids in predictions, store and learners' states mean records of the topic that was there then.
    """
    known = _known(folder)
    other = sorted(topic for topic, topic_id in ids.items() if known.get(topic, topic_id) != topic_id)
    if other:
        raise StateError(
            f"{where}: {', '.join(other)}: deleted and made anew since this state was written (id {ids[other[0]]}, was {known[other[0]]}): its offsets and "
            f"event ids mean other records now; give the job a new state folder and store; or, knowing that, delete the topic's line in {where}/{FILE} "
            "and the checkpoints of the lanes that read it (score: events; store: predictions; learn: predictions, shadow and labels)"
        )


def remember(folder: Folder, ids: Mapping[str, str]) -> None:
    """Write down which topics these are, those that were not before."""
    known = _known(folder)
    if any(topic not in known for topic in ids):
        folder.replace(FILE, json.dumps(dict(ids) | known, indent=1, sort_keys=True).encode())


def _known(folder: Folder) -> dict[str, str]:
    return dict(json.loads(folder.read(FILE) or b"{}"))


def narrow(spark: SparkSession, config: Config, there: Collection[str]) -> str:
    """Words about topics of the job, as they are `there`, that take less than it may send; they go to the log, too."""
    written = [topic for role, topic in config.topics().items() if topic in there and role in {"predictions", "rejected", "shadow"}]
    words = too_narrow(admin.longest_records(spark, config.kafka, written), write.room(config.kafka))
    if words:
        log.warning("%s", words)
    return f"; {words}" if words else ""


def too_narrow(takes: Mapping[str, int], room: int) -> str:
    """Words about topics that take less than the producer sends; empty when there are none. `room`: of the producer, `takes`: max.message.bytes by topic."""
    narrow = {topic: n for topic, n in takes.items() if n < room}
    if not narrow:
        return ""
    said = ", ".join(f"{topic} ({n})" for topic, n in sorted(narrow.items()))
    return (
        f"max.message.bytes of {said} is less than what the producer may send; a longer record would stop the job: "
        f"set max.request.size: {min(narrow.values())} in kafka.options, or raise it on the topic"
    )


def features_fit(n: int, kafka: Kafka, *, source: str) -> str:
    """Words about `n` features that may be too long for a prediction, which holds them for the learners; ConfigError when they never fit."""
    room = write.room(kafka)
    holds = f"a record holds {room} (kafka.options: max.request.size; max.message.bytes of the topics)"
    if n * _SHORTEST_NUMBER > room:
        raise ConfigError(
            f"{source}: learners: the model makes {n} features, at least {n * _SHORTEST_NUMBER} bytes in each prediction, and {holds}; "
            "raise both, or fit the pipeline with fewer features (numFeatures of HashingTF and FeatureHasher, vocabSize, a selector)"
        )
    if n * LONGEST_NUMBER > room:
        return f"; {n} features may take {n * LONGEST_NUMBER} bytes, and {holds}: an event whose prediction does not fit is rejected as too_large"
    return ""
