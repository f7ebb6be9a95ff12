"""Predictions in a Delta table, one MERGE per micro-batch.

MERGE rewrites the files it changes and leaves the old ones behind, so a table that changes with every batch would grow for
ever. Small files are put together by the writer (auto compaction), and every 100 batches the store deletes files that no
version of the last hour needs. A query that reads one version for more than an hour needs a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.stores import DeltaSection
from streaming.errors import StoreError, StoreUnavailable
from streaming.records.predictions import NEWEST, STORED
from streaming.secrets import redact
from streaming.stores.base import mismatches, python_rows, storable

#: Old files and old log entries go after an hour and a day: with a batch each second the defaults (a week, a month) would
#: keep 600,000 versions.
_PROPERTIES: Final = {
    "delta.autoOptimize.autoCompact": "true",
    "delta.deletedFileRetentionDuration": "interval 1 hour",
    "delta.logRetentionDuration": "interval 1 day",
}
_VACUUM_EVERY: Final = 100


def open(section: DeltaSection, spark: SparkSession) -> DeltaStore:
    """The store that the configuration names. Touches nothing yet."""
    return DeltaStore(uri=section.uri, spark=spark)


@dataclass(frozen=True)
class DeltaStore:
    """A Delta table, written by the executors."""

    uri: str
    spark: SparkSession = field(repr=False, compare=False)

    def prepare(self) -> None:
        """Create the table if it is missing; one that is there must have the columns, and is never altered."""
        with _errors(self.uri):
            if not DeltaTable.isDeltaTable(self.spark, self.uri):
                builder = DeltaTable.createIfNotExists(self.spark).location(self.uri).addColumns(STORED)
                for name, value in _PROPERTIES.items():
                    builder = builder.property(name, value)
                builder.execute()
            got = {column.name: column.dataType.simpleString() for column in self._table().schema.fields}
        wrong = mismatches({column.name: [column.dataType.simpleString()] for column in STORED.fields}, got)
        if wrong:
            raise StoreError(
                f"{self.uri}: the Delta table does not fit:\n  " + "\n  ".join(wrong) + "\nmove the table away, or choose another store.uri"
            )

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        """Merge the batch in one commit.

        Delta's transaction numbers are left alone on purpose: a repeated MERGE changes nothing anyway, and a batch that Delta
        skips is never computed, so whoever observes the frame (a count of rejected rows) would wait for ever.
        """
        spark = predictions.sparkSession
        newer = F.struct(*(F.col(f"incoming.{name}") for name in NEWEST)) > F.struct(*(F.col(f"stored.{name}") for name in NEWEST))
        same = (F.col("stored.key") == F.col("incoming.key")) & (F.col("stored.model") == F.col("incoming.model"))
        columns: dict[str, str | Column] = {name: F.col(f"incoming.{name}") for name in STORED.fieldNames()}
        with _errors(self.uri):
            merge = DeltaTable.forPath(spark, self.uri).alias("stored").merge(storable(predictions).alias("incoming"), same)
            merge.whenMatchedUpdate(newer, columns).whenNotMatchedInsert(values=columns).execute()
        if batch_id % _VACUUM_EVERY == _VACUUM_EVERY - 1:
            with _errors(self.uri):
                DeltaTable.forPath(spark, self.uri).vacuum()

    def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity, models in name order. Runs a Spark job: for checks, not for a web request."""
        with _errors(self.uri):
            return python_rows(self._table().where(F.col("key") == F.lit(key)).toArrow())

    def count(self) -> int:
        """The number of rows that stand."""
        with _errors(self.uri):
            return self._table().count()

    def _table(self) -> DataFrame:
        return DeltaTable.forPath(self.spark, self.uri).toDF()


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    """The errors of Spark, Delta and the file system become ours."""
    try:
        yield
    except AnalysisException as error:
        raise StoreError(f"{uri}: {_first_line(error)}; check store.uri") from error
    except (PySparkException, Py4JJavaError) as error:
        raise StoreUnavailable(f"{uri}: {_first_line(error)}; start again when the storage answers") from error


def _first_line(error: Exception) -> str:
    return redact(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__))
