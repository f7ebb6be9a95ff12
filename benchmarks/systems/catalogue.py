"""The systems by name. A new one is one file and one row here."""

from __future__ import annotations

from typing import Final

from benchmarks.systems import foreach_batch, ours, plain, quix, spark
from benchmarks.systems.base import System

SYSTEMS: Final[dict[str, System]] = {
    "realtime": ours.REALTIME_SCORE,
    "realtime-store": ours.REALTIME_STORE,
    "realtime-all": ours.REALTIME_ALL,
    "identity-realtime": spark.IDENTITY_REALTIME,
    "microbatch": ours.MICROBATCH_SCORE,
    "microbatch-all": ours.MICROBATCH_ALL,
    "microbatch-onnx": ours.MICROBATCH_ONNX,
    "identity-microbatch": spark.IDENTITY_MICROBATCH,
    "foreach-batch": foreach_batch.FOREACH_BATCH,
    "quix": quix.QUIX,
    "sklearn": plain.SKLEARN,
    "sklearn-2": plain.SKLEARN_TWO,
    "onnx": plain.ONNX,
    "onnx-2": plain.ONNX_TWO,
    "bytes": spark.BYTES,
    "parse": spark.PARSE,
}
