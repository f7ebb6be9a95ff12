"""What the score query counts of its rows as they pass: rejected by reason, and how long the answers took. Nothing is read twice for it.

One value a row and batch comes back with Spark's report (streaming.monitor.progress reads it): `observe` is allowed in real-time mode.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from streaming.monitor.latency import BOUNDS_MS, ROWS, SUM_MS, WITHIN
from streaming.monitor.progress import REJECTED

#: The words that a record can be rejected with here; what is none of them counts as rejected all the same.
REASONS: Final = (
    "malformed_json", "wrong_type", "missing_key", "unparsable_time", "future_time", "null_value", "invalid_utf8", "pipeline_failure", "too_large",
)  # fmt: skip

_TOOK: Final = "_took_ms"
#: `current_timestamp` stands still from the beginning of a batch, which in real-time mode is up to a whole trigger ago.
_NOW_MS: Final = "CAST(java_method('java.lang.System', 'currentTimeMillis') AS BIGINT)"


def counted(rows: DataFrame, name: str | Observation, *, problem: Column, stamp: Column) -> DataFrame:
    """The rows, counted under `name` as they pass. `problem`: STRUCT<reason, error>, null on a good row; `stamp`: the event record's time."""
    took = F.greatest(F.lit(0).cast("bigint"), F.expr(_NOW_MS) - F.unix_millis(stamp))
    # Only answers have a latency. A column of its own: what is counted must be the same value for every bucket.
    timed = rows.withColumn(_TOOK, F.when(problem.isNull(), took))
    reasons = [F.count_if(problem["reason"] == reason).alias(f"{REJECTED}{reason}") for reason in REASONS]
    within = [F.count_if(F.col(_TOOK) <= bound).alias(f"{WITHIN}{bound}") for bound in BOUNDS_MS]
    total = [F.count(_TOOK).alias(ROWS), F.sum(_TOOK).alias(SUM_MS)]
    return timed.observe(name, F.count_if(problem.isNotNull()).alias("rejected"), *reasons, *within, *total)
