"""The contract of learners as plain functions, for this project's learners and for anyone else's.

Each `check_*(learner, data)` raises AssertionError with the reason. :func:`problem` makes data that suits a learner;
:data:`LEARNER_CHECKS` has them all:

    for check in LEARNER_CHECKS:
        check(learner, problem(learner))
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streaming.online.base import Array, Learner, from_arrays, pack, to_arrays, unpack, valid_rows
from streaming.online.metrics import loss
from streaming.online.weights import Weights

AnyLearner = Learner[Any, Any]

#: Sums in another order differ by rounding, about rows · 1e-16 relative.
CLOSE: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Data:
    """Rows X (n, d) and labels y (n,) in the order in which they came."""

    X: Array
    y: Array


def problem(learner: AnyLearner, *, rows: int = 600, d: int = 3, seed: int = 0) -> Data:
    """An easy problem with labels that `learner` accepts: a noisy linear rule, or two well separated clouds."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, d))
    m = X @ np.linspace(2.0, -1.0, d) + 0.5
    match learner.labels:
        case "binary":
            y = (m + rng.logistic(size=rows) * 0.3 > 0).astype(float)
        case "classes":
            edges = np.quantile(m, np.linspace(0, 1, learner.classes + 1)[1:-1])
            y = np.searchsorted(edges, m).astype(float)
        case "count":
            y = rng.poisson(np.exp(np.clip(m / 2.0, -5.0, 3.0))).astype(float)
        case "number":
            y = m + 0.1 * rng.normal(size=rows)
        case "none":
            y = np.zeros(rows)
            X = X + np.where(rng.random(rows) < 0.5, 6.0, -6.0)[:, None]
    return Data(X, y)


def learn(learner: AnyLearner, state: Any, X: Array, y: Array) -> Any:
    """One batch in one partition."""
    return learner.update(state, learner.summarize(state, X, y))


def trained(learner: AnyLearner, data: Data, *, batches: int = 4) -> Any:
    """The state after `data` in a few batches."""
    state = learner.init(data.X.shape[1])
    for rows in np.array_split(np.arange(len(data.X)), batches):
        state = learn(learner, state, data.X[rows], data.y[rows])
    return state


def check_arguments_untouched(learner: AnyLearner, data: Data) -> None:
    """No method writes into the rows it was given."""
    X, y = data.X.copy(), data.y.copy()
    state = learn(learner, learner.init(X.shape[1]), X, y)
    learner.predict(state, X)
    learner.score(state, X)
    assert np.array_equal(X, data.X), "the features were changed"
    assert np.array_equal(y, data.y), "the labels were changed"


def check_state_untouched(learner: AnyLearner, data: Data) -> None:
    """No method writes into a state or a summary: the same inputs can be used again after a crash."""
    half = len(data.X) // 2
    for state in (learner.init(data.X.shape[1]), trained(learner, data)):
        before = _bits(state)
        summary = learner.summarize(state, data.X[:half], data.y[:half])
        kept = _bits(summary)
        learner.predict(state, data.X)
        learner.score(state, data.X)
        learner.weights(state)
        learner.merge(summary, learner.summarize(state, data.X[:0], data.y[:0]))
        learn(learner, learner.update(state, summary), data.X[half:], data.y[half:])
        assert _bits(state) == before, "the state was changed in place"
        assert _bits(summary) == kept, "the summary was changed in place"


def check_deterministic(learner: AnyLearner, data: Data) -> None:
    """The same rows give the same state, bit by bit."""
    assert _bits(trained(learner, data)) == _bits(trained(learner, data)), "two runs over the same rows differ"


def check_cuts_do_not_matter(learner: AnyLearner, data: Data) -> None:
    """Cutting the rows into other batches changes nothing, where the learner says so (`chunk`)."""
    if learner.chunk is None:
        return
    n, step = len(data.X), learner.chunk
    whole = learn(learner, learner.init(data.X.shape[1]), data.X, data.y)
    for cuts in ([step], [step, 3 * step, 7 * step], list(range(step, n, max(step, (n // 9) // step * step)))):
        state = learner.init(data.X.shape[1])
        for rows in np.split(np.arange(n), [c for c in cuts if c < n]):
            state = learn(learner, state, data.X[rows], data.y[rows])
        _assert_close(
            learner.predict(whole, data.X), learner.predict(state, data.X), f"batches cut after rows {cuts[:4]} predict differently"
        )


def check_partitions(learner: AnyLearner, data: Data) -> None:
    """Merging is deterministic and associative up to rounding; a sequential learner refuses a second partition."""
    state = trained(learner, Data(data.X[::2], data.y[::2]))
    a, b, c = (learner.summarize(state, data.X[i::3], data.y[i::3]) for i in range(3))
    if learner.sequential:
        try:
            learner.update(state, learner.merge(a, b))
        except ValueError:
            return
        raise AssertionError("a sequential learner merged two partitions")
    left = learner.update(state, learner.merge(learner.merge(a, b), c))
    again = learner.update(state, learner.merge(learner.merge(a, b), c))
    right = learner.update(state, learner.merge(a, learner.merge(b, c)))
    assert _bits(left) == _bits(again), "merging the same partitions twice differs"
    _assert_close(learner.predict(left, data.X), learner.predict(right, data.X), "merge is not associative")


def check_one_partition_is_exact(learner: AnyLearner, data: Data) -> None:
    """Empty partitions beside the rows change nothing, bit by bit."""
    state = trained(learner, Data(data.X[::2], data.y[::2]))
    rows = learner.summarize(state, data.X, data.y)
    none = learner.summarize(state, data.X[:0], data.y[:0])
    expected = _bits(learner.update(state, rows))
    assert _bits(learner.update(state, learner.merge(none, rows))) == expected, "an empty partition before the rows changes the state"
    assert _bits(learner.update(state, learner.merge(rows, none))) == expected, "an empty partition after the rows changes the state"


def check_empty_batch(learner: AnyLearner, data: Data) -> None:
    """A batch without rows leaves the state as it is, bit by bit."""
    for state in (learner.init(data.X.shape[1]), trained(learner, data)):
        assert _bits(learn(learner, state, data.X[:0], data.y[:0])) == _bits(state), "an empty batch changed the state"


def check_round_trip(learner: AnyLearner, data: Data) -> None:
    """States and summaries survive .npz bit by bit, cold and trained, and an incomplete one is refused."""
    for state in (learner.init(data.X.shape[1]), trained(learner, data)):
        summary = learner.summarize(state, data.X, data.y)
        empty = learner.summarize(state, data.X[:0], data.y[:0])
        assert isinstance(state, learner.state_type), f"the state is no {learner.state_type.__name__}"
        assert isinstance(summary, learner.summary_type), f"the summary is no {learner.summary_type.__name__}"
        for value in (state, summary, empty):
            assert _bits(unpack(type(value), pack(value))) == _bits(value), f"{type(value).__name__} is changed by packing"
    arrays = to_arrays(trained(learner, data))
    arrays.pop(next(iter(arrays)))
    try:
        from_arrays(learner.state_type, arrays)
    except ValueError:
        return
    raise AssertionError("a state with a missing entry was accepted")


def check_weights_agree(learner: AnyLearner, data: Data) -> None:
    """The published weights predict what the learner predicts, to 1e-9, also after JSON."""
    state = trained(learner, data)
    scored, weights = learner.score(state, data.X), learner.weights(state)
    if learner.labels in ("binary", "classes"):
        assert scored.probability is not None, "a classifier gives no probability"
        _assert_close(scored.probability.sum(axis=1), np.ones(len(data.X)), "probabilities do not add up to 1")
    if weights is None:
        return
    published = Weights.from_json(json.loads(json.dumps(weights.to_json())))
    assert np.array_equal(published.coefficients, weights.coefficients), "JSON changed the coefficients"
    evaluated = published.predict(data.X)
    _assert_close(evaluated.prediction, scored.prediction, "the weights predict something else")
    if scored.probability is not None:
        assert evaluated.probability is not None, "the weights give no probability"
        _assert_close(evaluated.probability, scored.probability, "the weights give another probability")


def check_learns(learner: AnyLearner, data: Data) -> None:
    """The loss on the data is lower after three passes than before, by a quarter at least."""
    cold = learner.init(data.X.shape[1])
    state = cold
    for _ in range(3):
        state = learn(learner, state, data.X, data.y)
    before, after = _loss(learner, cold, data), _loss(learner, state, data)
    assert after < 0.75 * before, f"the loss went from {before:.4f} to {after:.4f}"


def check_cold_and_warm(learner: AnyLearner, data: Data) -> None:
    """A cold state has no weights, a trained one has; a warm start predicts as its weights do, and learns on."""
    d = data.X.shape[1]
    weights = learner.weights(trained(learner, data))
    if weights is None:
        return
    try:
        warm = learner.warm(weights)
    except ValueError as refused:
        raise AssertionError(f"the learner refuses its own weights: {refused}") from refused
    _assert_close(learner.predict(warm, data.X), learner.predict(trained(learner, data), data.X), "the warm start predicts something else")
    assert learner.weights(warm) is not None, "a warm start has no weights"
    after = _loss(learner, learn(learner, warm, data.X, data.y), data)
    assert after < 1.1 * _loss(learner, warm, data) + 1e-6, "learning on from the warm start made it worse"
    assert learner.weights(learner.init(d)) is None, "a cold state has weights"


def check_any_scale(learner: AnyLearner, data: Data) -> None:
    """Constant columns, zeros and features of 1e12 leave a finite model, if the learner says so (`scale_free`)."""
    if not learner.scale_free:
        return
    d = data.X.shape[1]
    wild = data.X.copy()
    wild[:, 0] *= 1e12
    wild[:, 1] = 7.0
    wild[len(wild) // 2, -1] = 1e12
    for X in (wild, data.X * 1e-12, np.zeros_like(data.X), np.full_like(data.X, 1e12)):
        state = trained(learner, Data(X, data.y))
        assert np.isfinite(learner.predict(state, X)).all(), "a prediction is not finite"
        weights = learner.weights(state)
        assert weights is None or (weights.finite and weights.features == d), "a weight is not finite"


def check_accepts_its_labels(learner: AnyLearner, data: Data) -> None:
    """What `labels` promises is what the learner takes, and rows with a hole are refused by `valid_rows`."""
    mask, reasons = valid_rows(data.X, data.y, labels=learner.labels, classes=learner.classes)
    assert mask.all(), f"the learner's own problem is refused: {reasons[:1]}"
    X = data.X.copy()
    X[1, 0], X[2, 1] = np.nan, np.inf
    mask, reasons = valid_rows(X, data.y, labels=learner.labels, classes=learner.classes)
    assert np.flatnonzero(~mask).tolist() == [1, 2], "a row that is not finite is accepted"
    assert len(reasons) == 2, "a refused row has no reason"


#: All of the above, in the order in which a failure says most.
LEARNER_CHECKS: Final[tuple[Callable[[AnyLearner, Data], None], ...]] = (
    check_accepts_its_labels,
    check_arguments_untouched,
    check_state_untouched,
    check_deterministic,
    check_empty_batch,
    check_one_partition_is_exact,
    check_cuts_do_not_matter,
    check_partitions,
    check_round_trip,
    check_cold_and_warm,
    check_weights_agree,
    check_learns,
    check_any_scale,
)


def _bits(value: Any) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in to_arrays(value).items()}


def _loss(learner: AnyLearner, state: Any, data: Data) -> float:
    weights = learner.weights(state)
    if learner.labels == "none":
        centres = state.centres if weights is None else weights.coefficients
        return float(np.mean(((data.X[:, None, :] - centres) ** 2).sum(axis=2).min(axis=1)))
    return float(np.mean(loss(learner.labels, data.y, learner.score(state, data.X))))


def _assert_close(actual: Array, expected: Array, message: str) -> None:
    gap = np.abs(actual - expected)
    assert np.allclose(actual, expected, rtol=CLOSE, atol=CLOSE), f"{message}: largest difference {float(gap.max()):.3e}"
