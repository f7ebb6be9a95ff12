"""Why a lane died, in this project's words and with the right exit code: told by the classes of the cause, never by its text."""

from __future__ import annotations

from typing import Final

from pyspark.sql.streaming.query import StreamingQuery

from streaming.errors import BrokerUnavailable, ConfigError, LaneDied, ModelError, StateError, StreamingError
from streaming.kafka.causes import causes

#: Class (or super class) of a cause -> our error, and the next step. The first row that fits is taken.
_KNOWN: Final[tuple[tuple[frozenset[str], type[StreamingError], str], ...]] = (
    (
        frozenset({"AuthenticationException", "AuthorizationException"}),
        ConfigError,
        "check kafka.options (sasl.*, ssl.*) and the ACLs of the topics",
    ),
    (
        frozenset({"KafkaIllegalStateException", "OffsetOutOfRangeException"}),
        StateError,
        "the broker no longer has offsets that this job has still to read (retention, or the topic was made anew); "
        "set events.on_data_loss: continue to go on without them, or give the job a new state folder",
    ),
    (
        frozenset({"UnknownTopicOrPartitionException", "InvalidTopicException"}),
        ConfigError,
        "a topic of this job was deleted; create it again (streaming topics CONFIG) and restart",
    ),
    (
        frozenset({"RecordTooLargeException"}),
        ConfigError,
        "raise max.request.size in kafka.options and max.message.bytes of the topic",
    ),
    (frozenset({"RetriableException", "TimeoutException", "DisconnectException"}), BrokerUnavailable, "restart when the broker is back"),
    (frozenset({"AnalysisException"}), ModelError, "the query cannot run as configured; streaming check CONFIG says more"),
)


def explain(lane: str, query: StreamingQuery) -> StreamingError:
    """The error of a query that is no longer active."""
    died = query._jsq.exception()
    if died.isEmpty():
        return LaneDied(f"lane {lane}: the query stopped without an error, though nobody asked it to; restart the job")
    chain = causes(died.get())
    for classes, kind, step in _KNOWN:
        if classes & chain.names:
            return kind(f"lane {lane}: {chain.message}; {step}")
    return LaneDied(f"lane {lane}: {chain.message}; restart the job; if it dies again the log of Spark has the whole story")
