"""What every model format promises, whatever saved the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

#: The columns that :meth:`Model.transform` adds.
OUTPUTS: Final = ("prediction", "probability", "features", "error")


@runtime_checkable
class Model(Protocol):
    """A saved model, ready to score a DataFrame: on a stream or in a batch, the same function."""

    #: `True` when the whole computation stays in the JVM, so that real-time mode can take it.
    runs_in_jvm: bool

    #: When `runs_in_jvm` is False: which stage needs Python and why, for people to read. Empty otherwise.
    why_not_jvm: Sequence[str]

    def inputs(self) -> StructType:
        """The columns the model reads from an event, with the types it accepts (NullType: any type)."""

    def transform(self, events: DataFrame) -> DataFrame:
        """Score each row: keeps every row and every column, and adds four. Lazy: nothing runs here.

        Adds `prediction` DOUBLE, `probability` ARRAY<DOUBLE> (null unless the model gives one),
        `features` ARRAY<DOUBLE> (null when the model has no feature vector) and `error` STRING: null on a
        scored row; on a row the model cannot score, `prediction` is null and `error` says why, naming stages
        and columns but never values.
        """
