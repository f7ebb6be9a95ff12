"""The loss that rises for good is found, chance is not, a loss that falls is none of its business, and a restart changes nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streaming.monitor import concept
from streaming.monitor.concept import BLOCK, Losses, bounded, extend


def losses(n: int, *, flipped: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Squared errors of a calibrated model; a share `flipped` of the labels is the other one."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1.2, 3, n)
    y = (rng.random(n) < p) != (rng.random(n) < flipped)
    return np.square(p - y)


def run(losses: np.ndarray[tuple[int], np.dtype[np.float64]], *, batch: int = 1500, before: Losses = Losses()) -> tuple[Losses, list[int]]:
    """After these losses, and the batches in which the detectors agreed."""
    agreed = []
    for i in range(0, len(losses), batch):
        before, fired = extend(before, losses[i : i + batch])
        before = Losses.from_json(json.loads(json.dumps(before.to_json())))  # as after a restart
        agreed += [i] if "agreed" in fired else []
    return before, agreed


def test_chance_is_not_a_drift() -> None:
    assert run(losses(20_000, flipped=0, seed=3))[1] == []


@pytest.mark.parametrize("flipped", [0.2, 0.5])
def test_flipped_labels_are_found_within_two_windows_of_2000(flipped: float) -> None:
    for seed in range(3):
        before, _ = run(losses(9_000, flipped=0, seed=seed))
        _, agreed = run(losses(6_000, flipped=flipped, seed=100 + seed), batch=1000, before=before)
        assert agreed
        assert agreed[0] + 1000 <= 4_000


def test_after_a_drift_all_begin_anew_and_it_is_said_once() -> None:
    before, _ = run(losses(9_000, flipped=0, seed=1))
    after, agreed = run(losses(12_000, flipped=0.5, seed=2), before=before)
    assert len(agreed) == 1
    assert len(after.means) * BLOCK < 12_000


def test_a_loss_that_falls_is_no_drift() -> None:
    before, _ = run(losses(9_000, flipped=0.4, seed=1))
    assert run(losses(9_000, flipped=0, seed=2), before=before)[1] == []


def test_what_is_kept_is_bounded_and_blocks_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concept, "KEPT", 20)
    monkeypatch.setattr(concept, "_fired", lambda means, fresh, *, dropped: {})
    after, _ = run(losses(5_020, flipped=0, seed=1), batch=330)
    assert (len(after.means), after.dropped, len(after.rest)) == (20, 80, 20)


def test_every_loss_is_between_0_and_1() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.normal(0, 1e6, 100), rng.normal(0, 1e6, 100)
    for task, label in (("number", y), ("class", y), ("probability", (y > 0).astype(float))):
        losses = bounded(p, rng.random(100), label, task=task, scale=2.0)  # type: ignore[arg-type]
        assert ((losses >= 0) & (losses <= 1)).all()
