"""The label of a row as Spark ML wants it: a DOUBLE column `_label`, and for classes the mapping that gives the words back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, NumericType, StringType

from streaming.config.sections import Train
from streaming.errors import ConfigError
from streaming.training.algorithms import ALGORITHMS

#: More classes than this, and the label is a measurement or a name, not a class.
MOST_CLASSES: Final = 100


@dataclass(frozen=True)
class Label:
    """How the label column becomes a number."""

    column: Column
    #: What stands in the table -> the class that the model predicts. Empty for a regression.
    mapping: dict[str, int]

    @property
    def classes(self) -> int:
        """The number of classes; 0 for a regression."""
        return len(set(self.mapping.values()))


def numeric_label(rows: DataFrame, section: Train, *, source: str) -> Label:
    """The label of a regression. ConfigError when it is text that is no number."""
    where = f"{source}: train.label: {section.label}"
    if section.positive_label is not None:
        raise ConfigError(f"{source}: train.positive_label: only for classifiers; {section.algorithm} predicts a number")
    given, raw = rows.schema["_raw_label"].dataType, F.col("_raw_label")
    if isinstance(given, NumericType):
        return Label(raw.cast("double"), {})
    if not isinstance(given, StringType) or section.format != "csv":
        raise ConfigError(f"{where} is {given.simpleString()}; {section.algorithm} expects a number; cast it, or choose a classifier")
    number = F.trim(raw).try_cast("double")
    if wrong := rows.filter(number.isNull() | F.isnan(number)).count():
        raise ConfigError(
            f"{where}: {wrong} rows are no number; {section.algorithm} expects numbers; choose another column, or a classifier"
        )
    return Label(number, {})


def class_label(rows: DataFrame, section: Train, *, source: str) -> Label:
    """The label of a classifier, as classes 0 to k-1.

    With `positive_label`: that one is 1, all else 0. Booleans: true is 1. Numbers: in ascending order (so 0 and 1 stay
    what they are). Text: by frequency, the most frequent is 0, and alphabetical where two are equally frequent.
    ConfigError on fewer than two classes, on more than the algorithm can tell apart, and on numbers with fractions.
    """
    where = f"{source}: train.label: {section.label}"
    raw = F.trim(F.col("_raw_label").cast("string"))
    counted = rows.groupBy(raw.alias("value")).count().orderBy(F.desc("count"), "value").limit(MOST_CLASSES + 1).collect()
    values = [str(row["value"]) for row in counted]
    if len(values) > MOST_CLASSES:
        raise ConfigError(f"{where} has more than {MOST_CLASSES} different values; for a number to predict choose a regression")
    if section.positive_label is not None:
        if section.positive_label not in values:
            raise ConfigError(
                f"{source}: train.positive_label: {section.positive_label!r} does not occur in {section.label}; it has {_some(values)}"
            )
        ordered = {value: int(value == section.positive_label) for value in values}
    else:
        ordered = _in_order(values, rows.schema["_raw_label"].dataType, section, where)
    label = Label(_lookup(raw, ordered), ordered)
    if label.classes < 2:
        raise ConfigError(f"{where} has one class only ({_some(values)}) in {section.data}; a classifier needs rows of two at least")
    if ALGORITHMS[section.algorithm].binary and label.classes > 2:
        raise ConfigError(
            f"{where} has {label.classes} classes ({_some(values)}); {section.algorithm} tells two apart; name one as train.positive_label"
        )
    return label


def _in_order(values: list[str], given: DataType, section: Train, where: str) -> dict[str, int]:
    """The class of each of `values`, which come by frequency."""
    if isinstance(given, BooleanType) or (section.format == "csv" and {value.lower() for value in values} <= {"true", "false"}):
        return {value: int(value.lower() == "true") for value in values}
    if isinstance(given, NumericType) or section.format == "csv":
        try:
            numbers = {value: float(value) for value in values}
        except ValueError:
            return {value: i for i, value in enumerate(values)}
        if any(number != number // 1 for number in numbers.values()):
            raise ConfigError(
                f"{where} has numbers with fractions; {section.algorithm} expects classes; for a number to predict choose a regression"
            )
        rank = {number: i for i, number in enumerate(sorted(set(numbers.values())))}
        return {value: rank[number] for value, number in sorted(numbers.items(), key=lambda item: item[1])}
    return {value: i for i, value in enumerate(values)}


def _lookup(raw: Column, mapping: dict[str, int]) -> Column:
    pairs = [part for value, index in mapping.items() for part in (F.lit(value), F.lit(float(index)))]
    return F.create_map(*pairs)[raw]


def _some(values: list[str]) -> str:
    return ", ".join(map(repr, sorted(values)[:10])) + (", ..." if len(values) > 10 else "")
