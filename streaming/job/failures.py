"""Why a lane died, in this project's words and with the right exit code: told by the classes of the cause, never by its text."""

from __future__ import annotations

from typing import Any, Final

from pyspark.sql.streaming.query import StreamingQuery

from streaming import secrets
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
    return _of_throwable(lane, died.get())


def of_start(lane: str, error: BaseException) -> StreamingError:
    """The error of a lane whose query could not even be started."""
    if isinstance(error, StreamingError):
        return type(error)(f"lane {lane}: {error}")
    # Of an exception that came from the JVM: py4j has it as java_exception, PySpark's own classes keep it as _origin.
    thrown = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if thrown is not None:
        return _of_throwable(lane, thrown)
    return LaneDied(f"lane {lane}: could not be started: {type(error).__name__}: {secrets.redact(str(error))}")


def _of_throwable(lane: str, thrown: Any) -> StreamingError:
    chain = causes(thrown)
    for classes, kind, step in _KNOWN:
        if classes & chain.names:
            return kind(f"lane {lane}: {chain.message}; {step}")
    return LaneDied(f"lane {lane}: {chain.message}; if it dies again the log of Spark has the whole story")
