"""Rows on which two forms of a model are compared: enough of them can be scored, however wide the model is."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.scorers import rows
from streaming.scorers.base import ColumnKind


@pytest.mark.parametrize("columns", [1, 19, 100, 1_000])
def test_about_half_of_the_rows_or_more_have_nothing_odd(columns: int) -> None:
    kinds: dict[str, ColumnKind] = {f"t{i}": "text" for i in range(columns)}
    known = {name: ["red"] for name in kinds}
    made = rows.generate(500, kinds, labels=known)
    whole = np.all([[value == "red" for value in made[name]] for name in kinds], axis=0)
    assert 0.4 < whole.mean() < 1.0


def test_the_first_row_is_null_and_the_same_rows_come_again() -> None:
    kinds: dict[str, ColumnKind] = {"n": "number", "t": "text"}
    first, again = (rows.generate(50, kinds, seed=7) for _ in range(2))
    assert np.isnan(first["n"][0])
    assert first["t"][0] is None
    assert np.array_equal(first["n"], again["n"], equal_nan=True)
    assert list(first["t"]) == list(again["t"])
