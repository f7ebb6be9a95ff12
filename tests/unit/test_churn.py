"""The churn demo's data: the same in every replay, consistent with itself, and following the law it states."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streaming.demo import chance, churn
from streaming.demo.chance import uniform

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def people() -> churn.Columns:
    return churn.customers(20_000, seed=1)


def take(n: int, seed: int = 1, **options: Any) -> list[churn.Occurrence]:
    return list(islice(churn.stream(seed, start=START, **options), n))


def test_a_customer_depends_on_seed_and_number_alone() -> None:
    whole, part = churn.customers(100, 1), churn.customers(30, 1, first=50)
    assert all(np.array_equal(whole[name][50:80], part[name]) for name in whole)
    other = churn.customers(100, 2)
    assert not np.array_equal(whole["monthly_charges"], other["monthly_charges"])


def test_chance_is_even_and_its_purposes_are_independent() -> None:
    numbers = np.arange(100_000)
    a, b = uniform(1, numbers, "a"), uniform(1, numbers, "b")
    assert 0 <= a.min() < 1e-3 < 0.999 < a.max() < 1
    # Standard deviation of a mean of n uniform numbers: 1 / sqrt(12 n); of a correlation of independent ones: 1 / sqrt(n).
    assert abs(a.mean() - 0.5) < 5 / np.sqrt(12 * len(a))
    for other in (b, uniform(2, numbers, "a"), np.roll(a, 1)):
        assert abs(np.corrcoef(a, other)[0, 1]) < 5 / np.sqrt(len(a))


@pytest.mark.parametrize(("first", "n"), [(0, 1), (1, 1100), (1023, 3), (1024, 5), (2000, 100)])
def test_a_replay_from_any_event_is_the_same(first: int, n: int) -> None:
    assert take(n, first=first) == take(2200)[first : first + n]


def test_columns_agree_with_each_other(people: churn.Columns) -> None:
    table = pd.DataFrame(people)
    add_ons = ["online_security", "online_backup", "device_protection", "tech_support", "streaming_tv", "streaming_movies"]
    offline = table["internet_service"] == "No"
    for name in add_ons:
        assert (table.loc[offline, name] == "No internet service").all()
        assert set(table.loc[~offline, name]) == {"Yes", "No"}
    mute = table["phone_service"] == "No"
    assert mute.any()
    assert (table.loc[mute, "multiple_lines"] == "No phone service").all()
    assert not (table.loc[~mute, "multiple_lines"] == "No phone service").any()
    assert (table.loc[mute, "internet_service"] != "Fiber optic").all()
    assert table["tenure"].between(1, 72).all()
    assert np.allclose(table["total_charges"], table["tenure"] * table["monthly_charges"], rtol=0.0601, atol=0.01)
    means = table.groupby("contract")["tenure"].mean()
    assert means["Month-to-month"] + 10 < means["One year"] < means["Two year"] - 3
    assert table["customer_id"].is_unique
    assert set(table.columns) == {"customer_id", *churn.CATEGORICAL, *churn.NUMERIC}


def test_the_event_is_what_the_ddl_says() -> None:
    event = take(1)[0].event
    declared = [part.split() for part in churn.EVENT_DDL.split(", ")]
    assert {name for name, _ in declared} == set(event)
    types = {"STRING": str, "INT": int, "DOUBLE": float}
    assert all(type(event[name]) is types[kind] for name, kind in declared)
    assert json.loads(json.dumps(event)) == event
    assert next(churn.events(1, START)) == event


def test_rates_follow_the_law(people: churn.Columns) -> None:
    """In each tenth of the probability, the share of churners is within five standard deviations of the mean probability."""
    for regime in (churn.BEFORE, churn.AFTER):
        p = churn.churn_probability(people, regime=regime)
        left = (churn.training_table(len(p), seed=1, regime=regime)["churn"] == "Yes").to_numpy()
        for tenth in np.array_split(np.argsort(p), 10):
            spread = np.sqrt((p[tenth] * (1 - p[tenth])).sum()) / len(tenth)
            assert abs(left[tenth].mean() - p[tenth].mean()) < 5 * spread


def test_the_law_by_hand(people: churn.Columns) -> None:
    i, b = 7, churn.BEFORE
    person = {name: column[i] for name, column in people.items()}
    log_odds = (
        b.intercept
        + b.month_to_month * (person["contract"] == "Month-to-month")
        + b.two_year * (person["contract"] == "Two year")
        + b.fiber_optic * (person["internet_service"] == "Fiber optic")
        + b.no_internet * (person["internet_service"] == "No")
        + b.tenure_years * person["tenure"] / 12
        + b.monthly_charges_10 * (person["monthly_charges"] - 65) / 10
        + b.electronic_check * (person["payment_method"] == "Electronic check")
        + b.paperless * (person["paperless_billing"] == "Yes")
        + b.senior * person["senior_citizen"]
        + b.dependents * (person["dependents"] == "Yes")
        + b.no_online_security * (person["online_security"] == "No")
        + b.no_tech_support * (person["tech_support"] == "No")
    )
    assert churn.churn_probability(people, regime=b)[i] == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-12)


def test_the_base_rate_and_the_best_possible_auc(people: churn.Columns) -> None:
    p = churn.churn_probability(people, regime=churn.BEFORE)
    assert 0.24 < p.mean() < 0.28
    assert 0.83 < best_auc(p) < 0.87


def best_auc(p: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """AUC of the probabilities against labels drawn from them, in expectation."""
    order = np.argsort(p)
    negatives_below = np.cumsum(1 - p[order]) - (1 - p[order])
    return float((p[order] * negatives_below).sum() / (p.sum() * (1 - p).sum()))


def test_a_model_of_before_is_clearly_worse_after(people: churn.Columns) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    def features(table: pd.DataFrame) -> Any:
        numbers = table[list(churn.NUMERIC)] / [1, 72, 100, 8000]
        return pd.concat([numbers, pd.get_dummies(table[list(churn.CATEGORICAL)])], axis=1).astype(float).to_numpy()

    tables = [
        churn.training_table(8000, seed=s, regime=r)
        for s, r in [(11, churn.BEFORE), (12, churn.BEFORE), (13, churn.AFTER), (14, churn.AFTER)]
    ]
    x, y = [features(t) for t in tables], [(t["churn"] == "Yes").to_numpy() for t in tables]
    frozen, retrained = LogisticRegression(max_iter=2000).fit(x[0], y[0]), LogisticRegression(max_iter=2000).fit(x[2], y[2])
    before, after = (roc_auc_score(y[i], frozen.predict_proba(x[i])[:, 1]) for i in (1, 3))
    again = roc_auc_score(y[3], retrained.predict_proba(x[3])[:, 1])
    assert before > 0.82
    assert after < before - 0.15
    assert again > after + 0.15


def test_mix_goes_from_one_law_to_the_other() -> None:
    assert churn.mix(churn.BEFORE, churn.AFTER, fraction=0.0) == churn.BEFORE
    assert churn.mix(churn.BEFORE, churn.AFTER, fraction=1.0) == churn.AFTER
    half = churn.mix(churn.BEFORE, churn.AFTER, fraction=0.5)
    assert half.fiber_optic == pytest.approx((churn.BEFORE.fiber_optic + churn.AFTER.fiber_optic) / 2)
    with pytest.raises(ValueError, match="0 to 1"):
        churn.mix(churn.BEFORE, churn.AFTER, fraction=1.5)


def test_the_regime_is_asked_for_each_event_when_it_is_due() -> None:
    asked: list[int] = []

    def regime_at(index: int) -> churn.Regime:
        asked.append(index)
        return churn.BEFORE if index < 10 else never

    never = replace(churn.BEFORE, intercept=-1000.0)
    run = churn.stream(1, start=START, regime_at=regime_at)
    occurrences = list(islice(run, 15))
    assert asked == list(range(15))
    assert all(o.probability > 0.001 for o in occurrences[:10])
    assert all(o.probability == 0.0 for o in occurrences[10:])
    assert [o.event for o in occurrences] == [o.event for o in take(15)]


def test_labels_of_the_stream_follow_their_probability() -> None:
    occurrences = take(20_000)
    p = np.array([o.probability for o in occurrences])
    labels = np.array([o.label["label"] for o in occurrences])
    assert set(labels.tolist()) == {0, 1}
    assert abs(labels.mean() - p.mean()) < 5 * np.sqrt((p * (1 - p)).sum()) / len(p)
    assert best_auc(p) > 0.8


def test_a_label_says_what_it_is_about_and_comes_late() -> None:
    for o in take(50):
        assert o.label["customer_id"] == o.event["customer_id"]
        assert (
            o.label["event_time"] == o.event["event_time"] == (START + timedelta(seconds=o.index * 0.01)).isoformat(timespec="microseconds")
        )
        late = datetime.fromisoformat(o.label["label_time"]) - datetime.fromisoformat(o.label["event_time"])
        assert late.total_seconds() == pytest.approx(o.delay_s, abs=1e-5)
    moved = take(1)[0].at(START + timedelta(days=1))
    assert moved.event["event_time"] == moved.label["event_time"] == "2026-01-02T00:00:00.000000+00:00"
    assert moved.label["label"] == take(1)[0].label["label"]


def test_delays_are_exponential_and_bounded() -> None:
    late = churn.LateLabels(mean_s=10.0, max_s=60.0)
    delays = late.delays_s(1, np.arange(50_000))
    assert delays.min() >= 0
    assert delays.max() < 60
    cut = 1 - np.exp(-6.0)
    for quantile in (0.25, 0.5, 0.9, 0.99):
        assert np.quantile(delays, quantile) == pytest.approx(-10 * np.log(1 - quantile * cut), rel=0.05)
    assert late.delay_s(1, 7) == delays[7]
    assert late.delay_s(2, 7) != delays[7]
    assert [o.delay_s for o in take(20, late=late)] == delays[:20].tolist()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_training_table_is_written_as_it_is(tmp_path: Path, ending: str) -> None:
    path = churn.write_training_table(tmp_path / "data" / f"t.{ending}", 300, seed=4)
    back = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    pd.testing.assert_frame_equal(back, churn.training_table(300, seed=4))
    assert set(back["churn"]) == {"Yes", "No"}
    again = churn.write_training_table(tmp_path / f"again.{ending}", 300, seed=4)
    assert again.read_bytes() == path.read_bytes()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        churn.write_training_table(tmp_path / "t.json", 3, seed=1)


@pytest.mark.parametrize("module", [chance, churn])
def test_the_examples_in_the_documentation_are_true(module: Any) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
