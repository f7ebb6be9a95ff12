"""The proof that decides: a folded pipeline answers generated rows as Spark ML's own stages do, or it is not used.

The rows are made from the pipeline's own metadata: its labels, unseen ones, nulls, NaN, negative zero, small and large
numbers. The other side is the guarded pipeline, which runs the stages as they were saved and gives bad rows an error.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from streaming.models.base import OUTPUTS
from streaming.models.columns import quoted
from streaming.models.spark.fold.folded import Folded, fold, types_of
from streaming.models.spark.fold.state import CannotFold
from streaming.models.spark.known import known_labels
from streaming.runtime.jars import user_cache
from streaming.scorers import rows
from streaming.scorers.base import ColumnKind

if TYPE_CHECKING:
    from streaming.models.spark.pipeline import SparkModel

log = logging.getLogger(__name__)

ROWS: Final = 500
#: Two answers of which neither is further from the other are the same.
TOLERANCE: Final = 1e-9
_ROW: Final = "__streaming_row"
_ODD: Final = (np.nan, -0.0, np.inf, -np.inf, 1e300, 5e-324)


@dataclass(frozen=True)
class Folding:
    """Whether a pipeline is folded for events of certain types; if not, why."""

    folded: Folded | None
    why_not: str = ""


def folding(model: SparkModel, schema: StructType) -> Folding:
    """The folded pipeline, proven; or the reason why the guarded one has to do. Runs a small job unless the proof is remembered."""
    try:
        reads = _reads(model)
        wanted = {column.lower(): both for column, both in types_of(schema).items() if column in reads}
        made = fold([(s, f.__self__) for s, f in model.steps], wanted, model.predictor, uri=model.copy.readable)  # type: ignore[attr-defined]
    except CannotFold as why:
        log.info("model=%s folded=False why=%r", model.uri, str(why))
        return Folding(None, str(why))
    except (Py4JError, PySparkException) as odd:
        return _refused(model, f"it cannot be folded: {str(odd).strip().splitlines()[0]}")
    said = hashlib.sha256(repr((model.fingerprint, model.spark.version, ROWS, made)).encode()).hexdigest()
    if _remembered(said):
        return Folding(made)
    try:
        different = difference(model, made, generated(model, schema))
    except (Py4JError, PySparkException) as odd:
        different = f"the expression cannot be run: {str(odd).strip().splitlines()[0]}"
    if different is not None:
        return _refused(model, different)
    _remember(said)
    return Folding(made)


def _refused(model: SparkModel, why: str) -> Folding:
    log.warning("model=%s folded=False: %s; the guarded pipeline is used, which is slower", model.uri, why)
    return Folding(None, why)


def _reads(model: SparkModel) -> set[str]:
    return {name.lower() for name in model.inputs().fieldNames()}


def generated(model: SparkModel, schema: StructType, *, n: int = ROWS, seed: int = 0) -> DataFrame:
    """Rows with the columns that the model reads, of the types that the events have."""
    reads, of_events = _reads(model), types_of(schema)
    types = {column: kind for column, (_, kind) in of_events.items() if column in reads}
    kinds: dict[str, ColumnKind] = {column: _kind(kind) for column, kind in types.items()}
    labels = {column.lower(): known for column, known in known_labels(model).items()}
    sizes = {column: _size(model, column) for column, kind in kinds.items() if kind == "vector"}
    made = rows.generate(n, kinds, labels=labels, sizes=sizes, types=types, seed=seed)
    rng = np.random.default_rng(seed + 1)
    arrays: dict[str, Any] = {_ROW: pa.array(np.arange(n))}
    few = rows.share(len(kinds))
    for column, kind in kinds.items():
        odd = few if types[column] in {"double", "float"} else 0.0
        arrays[column] = _arrow(made[column], kind, rng, odd=odd)
    listed = [f"try_cast(`{column}` AS {kind}) AS `{of_events[column][0]}`" for column, kind in types.items()]
    # Coalesced, because the optimizer would compute a pipeline over rows given as a literal by itself, a hundred times slower.
    return model.spark.createDataFrame(pa.table(arrays)).selectExpr(_ROW, *listed).coalesce(1)


def _kind(kind: str) -> ColumnKind:
    if kind.startswith("array"):
        return "vector"
    return "number" if kind in {"tinyint", "smallint", "int", "bigint", "float", "double"} or kind.startswith("decimal") else "text"


def _size(model: SparkModel, column: str) -> int:
    """How many elements the first stage that reads the array expects."""
    for stage, transform in model.steps:
        if column in {name.lower() for name in stage.inputs}:
            fitted: Any = transform.__self__  # type: ignore[attr-defined]
            for name in ("numFeatures", "mean", "std"):
                learned = getattr(fitted, name, None)
                if learned is not None:
                    return int(learned) if isinstance(learned, int) else len(learned)
    return 1


def _arrow(values: NDArray[Any], kind: ColumnKind, rng: np.random.Generator, *, odd: float) -> Any:
    if kind == "text":
        return pa.array(list(values), pa.string())
    if kind == "vector":
        return pa.array([None if np.isnan(row).all() else row.tolist() for row in values], pa.list_(pa.float64()))
    null = np.isnan(values)
    if odd:
        chosen = rng.random(len(values)) < odd
        values = np.where(chosen, np.array(_ODD)[rng.integers(len(_ODD), size=len(values))], values)
        null &= ~chosen
    return pa.array(values, pa.float64(), mask=null)


def difference(model: SparkModel, made: Folded, events: DataFrame) -> str | None:
    """Where the folded pipeline and the guarded one disagree first; None where they agree on every row, and answer one at least."""
    theirs = model.guarded(events)
    renamed = theirs.select(*map(quoted, events.columns), *(F.col(name).alias(f"guarded_{name}") for name in OUTPUTS))
    table = made.apply(renamed).select(_ROW, *OUTPUTS, *(f"guarded_{name}" for name in OUTPUTS)).toArrow().to_pylist()
    for row in table:
        said = _unlike(row, exact=model.kind != "regression")
        if said:
            return f"on generated row {row[_ROW]} the expression and Spark ML differ in {said}"
    if all(row["error"] is not None for row in table):
        return f"none of {len(table)} generated rows has an answer, so nothing is proven (the first: {table[0]['error']})"
    return None


def _unlike(row: Mapping[str, Any], *, exact: bool) -> str | None:
    if (row["error"] is None) != (row["guarded_error"] is None):
        return f"error ({row['error']!r} against {row['guarded_error']!r})"
    if row["error"] is not None:
        return None
    if exact and row["prediction"] != row["guarded_prediction"]:
        return "the label"
    for name in ("prediction", "probability", "features"):
        ours, theirs = row[name], row[f"guarded_{name}"]
        if (ours is None) != (theirs is None):
            return name
        if ours is not None and not _close(np.atleast_1d(np.array(ours, float)), np.atleast_1d(np.array(theirs, float))):
            return name
    return None


def _close(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    """Equal to 1e-9, relative where a number is greater than one."""
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _folder() -> Path:
    return user_cache() / "folded"


def _remembered(said: str) -> bool:
    try:
        return (_folder() / said).exists()
    except OSError:
        return False


def _remember(said: str) -> None:
    # Where nothing can be written the proof is done again at the next start.
    with suppress(OSError, RuntimeError):
        _folder().mkdir(parents=True, exist_ok=True)
        (_folder() / said).touch()
