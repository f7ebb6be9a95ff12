"""Rows and Arrow batches become the columns that Spark would have given the model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import ModelError
from streaming.scorers import columns, standalone
from streaming.scorers.base import ColumnKind

INPUTS: dict[str, ColumnKind] = {"n": "number", "t": "text", "v": "vector"}


def test_numbers_from_rows() -> None:
    arrays = columns.from_rows([{"n": 1}, {"n": 2.5}, {"n": True}, {"n": None}, {}], {"n": "number"})
    np.testing.assert_array_equal(arrays["n"], [1.0, 2.5, 1.0, math.nan, math.nan])
    assert arrays["n"].dtype == np.float64


def test_text_from_rows_is_spelled_as_spark_spells_it() -> None:
    rows: list[dict[str, Any]] = [{"t": "a"}, {"t": 0}, {"t": 1.0}, {"t": 1e7}, {"t": 0.0001}, {"t": False}, {"t": None}]
    assert columns.from_rows(rows, {"t": "text"})["t"].tolist() == ["a", "0", "1.0", "1.0E7", "1.0E-4", "false", None]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0.0"), (-0.0, "-0.0"), (100.0, "100.0"), (0.001, "0.001"), (0.00099, "9.9E-4"), (9999999.0, "9999999.0"),
        (123456789.125, "1.23456789125E8"), (-1.5e-300, "-1.5E-300"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (math.nan, "NaN"),
        (1234.5, "1234.5"), (0.1 + 0.2, "0.30000000000000004"),
    ],
)  # fmt: skip
def test_doubles_are_spelled_as_java_does(value: float, expected: str) -> None:
    assert columns.text(value) == expected
    assert standalone.spelled(value) == expected  # the packaged scorer has a copy of its own


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_spelled_doubles_read_back_as_they_were(value: float) -> None:
    spelled = columns.text(value)
    assert float(spelled) == value
    assert standalone.spelled(value) == spelled


def test_vectors_from_rows() -> None:
    vectors = columns.from_rows([{"v": [1, 2]}, {"v": None}, {"v": [0.5, None]}], {"v": "vector"})["v"]
    np.testing.assert_array_equal(vectors, [[1, 2], [math.nan, math.nan], [0.5, math.nan]])


def test_vectors_of_several_lengths_are_refused() -> None:
    with pytest.raises(ModelError, match="v: expected vectors of one length, got lengths 1, 2"):
        columns.from_rows([{"v": [1, 2]}, {"v": [1]}], {"v": "vector"})


def test_problems_name_field_and_types_but_no_values() -> None:
    row = {"n": "secret", "t": ["secret"], "v": [1, "secret"]}
    assert columns.problems(row, INPUTS) == {
        "n": "expected a number, got text",
        "t": "expected text, got a list with text in it",
        "v": "expected a list of numbers, got a list with text in it",
    }
    assert columns.problems({"n": None}, INPUTS) == {}


def test_a_wrong_type_names_the_row() -> None:
    with pytest.raises(ModelError, match="row 1: n: expected a number, got an object"):
        columns.from_rows([{"n": 1}, {"n": {}}], {"n": "number"})


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ModelError, match="the model reads 'n'; the rows do not have it: they have m"):
        columns.from_rows([{"m": 1}], {"n": "number"})
    with pytest.raises(ModelError, match="the model reads 'n'"):
        columns.from_arrow(pa.table({"m": [1]}), {"n": "number"})


def test_no_rows_give_empty_columns() -> None:
    arrays = columns.from_rows([], INPUTS)
    assert {name: len(values) for name, values in arrays.items()} == {"n": 0, "t": 0, "v": 0}


@pytest.mark.parametrize("batch", [False, True])
def test_arrow(batch: bool) -> None:
    table = pa.table(
        {
            "n": pa.array([1, None, 3], pa.int32()),
            "b": pa.array([True, None, False]),
            "t": pa.array(["a", None, "c"]).dictionary_encode(),
            "i": pa.array([0, None, 7], pa.int64()),
            "d": pa.array([1.0, None, 2.5]),
            "v": pa.array([[1.0, 2.0], None, [3.0, None]]),
            "none": pa.nulls(3),
        }
    )
    inputs: dict[str, ColumnKind] = {"n": "number", "b": "number", "t": "text", "i": "text", "d": "text", "v": "vector", "none": "text"}
    arrays = columns.from_arrow(table.to_batches()[0] if batch else table, inputs)
    np.testing.assert_array_equal(arrays["n"], [1.0, math.nan, 3.0])
    np.testing.assert_array_equal(arrays["b"], [1.0, math.nan, 0.0])
    assert arrays["t"].tolist() == ["a", None, "c"]
    assert arrays["i"].tolist() == ["0", None, "7"]
    assert arrays["d"].tolist() == ["1.0", None, "2.5"]
    np.testing.assert_array_equal(arrays["v"], [[1, 2], [math.nan, math.nan], [3, math.nan]])
    assert arrays["none"].tolist() == [None, None, None]


def test_arrow_of_another_type_is_refused() -> None:
    with pytest.raises(ModelError, match="n: expected a number, got Arrow type string"):
        columns.from_arrow(pa.table({"n": ["1"]}), {"n": "number"})
