"""The SQL of a folded pipeline: literals to the bit, sums from left to right, vectors in blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streaming.models.spark.fold import text
from streaming.models.spark.fold.state import Fold
from streaming.models.spark.fold.values import Choice, Number, Vector


@pytest.mark.parametrize(
    ("value", "sql"),
    [(1.5, "1.5D"), (-0.0, "(-0.0D)"), (5e-324, "5e-324D"), (math.inf, "CAST('Infinity' AS DOUBLE)"), (math.nan, "CAST('NaN' AS DOUBLE)")],
)
def test_a_number_is_written_to_the_bit(value: float, sql: str) -> None:
    assert text.number(value) == sql


@pytest.mark.parametrize("label", ["${env:SECRET}", "o'clock", "back\\slash", "Ünseen ✓", "line\nfeed"])
def test_no_label_can_leave_its_quotes_or_be_replaced(label: str) -> None:
    assert text.string(label) == f"CAST(X'{label.encode().hex()}' AS STRING)"


def test_a_sum_is_left_to_right_within_blocks() -> None:
    assert text.total(["a", "b", "c"]) == "(a + b + c)"
    assert text.total([str(i) for i in range(130)]).count("(") == 4


def test_a_choice_gives_each_place_its_sum() -> None:
    choice = Choice("i", 4, np.array([1.0, 2.0]), np.array([0.0, 0.5]))
    assert choice.table(lambda values: values * np.array([10.0, 100.0])) == [60.0, 200.0, 50.0, 50.0]


def test_zeros_of_a_sparse_vector_meet_no_number() -> None:
    vector = Vector((Number("x"), Number("y")))
    assert vector.dot([0.0, 2.0], skip_zeros=True) == ["(y * 2.0D)"]
    assert vector.dot([0.0, 2.0]) == ["(x * 0.0D)", "(y * 2.0D)"]


def test_a_value_is_named_a_level_above_what_it_reads() -> None:
    fold = Fold({"x": ("x", "double")})
    first = fold.let("`x` + 1D")
    second = fold.let(f"{first} * 2D")
    assert [list(level) for level in fold.levels] == [["__streaming_f0"], ["__streaming_f1"]]
    assert fold.let(second) == second
