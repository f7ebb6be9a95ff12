"""The contract of a store, as plain functions: each takes a fresh, prepared, empty store and fails with AssertionError.

    from streaming.checks.store import STORE_CHECKS

    @pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
    def test_my_store(check, spark):
        check(my_empty_store(), spark)

"Prepared" means that `prepare()` has run. The checks write a few dozen rows each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import SparkSession

from streaming.checks.predictions import Row, expect, frame, newest, prediction, write
from streaming.stores.base import Store


def _pick(rows: Iterable[Row], way: str) -> list[Row]:
    """The rows whose model's name ends so."""
    return [row for row in rows if row["model"].endswith(f"-{way}")]


def check_newest_wins_in_any_order(store: Store, spark: SparkSession) -> None:
    """Five events of one key in a mixed order, one batch each: the one with the greatest event time stands."""
    rows = [prediction(seconds=s, offset=o) for s, o in [(2, 2), (4, 1), (1, 9), (3, 3), (0, 7)]]
    write(store, spark, [[row] for row in rows])
    expect(store, rows)


def check_older_never_overwrites(store: Store, spark: SparkSession) -> None:
    """Each of the four ordering columns decides when those before it are equal, in both directions."""
    base: Row = {"partition": 1, "offset": 10, "scored_ms": 10, "seconds": 10.0}
    cases = {
        "time": {**base, "seconds": 9.0, "partition": 9, "offset": 99, "scored_ms": 9_999},
        "micro": {**base, "seconds": 9.999999, "partition": 9, "offset": 99, "scored_ms": 9_999},
        "partition": {**base, "partition": 0, "offset": 99, "scored_ms": 99},
        "offset": {**base, "offset": 9, "scored_ms": 99},
        "scored": {**base, "scored_ms": 9},
    }
    new = [prediction(model=f"{name}-{way}", **base) for name in cases for way in ("up", "down")]
    old = [prediction(model=f"{name}-{way}", **older) for name, older in cases.items() for way in ("up", "down")]
    write(store, spark, [_pick(old, "up") + _pick(new, "down"), _pick(new, "up") + _pick(old, "down")])
    expect(store, new)


def check_repeat_changes_nothing(store: Store, spark: SparkSession) -> None:
    """A batch again (same number, then as a later one) and an older batch again leave every row as it was."""
    first, second = [prediction(k, seconds=1) for k in "abc"], [prediction(k, seconds=2, offset=1) for k in "bcd"]
    write(store, spark, [first, second])
    write(store, spark, [second], first=1)
    write(store, spark, [second, first], first=2)
    expect(store, first + second)


def check_equal_order_keeps_the_first(store: Store, spark: SparkSession) -> None:
    """Equal in all four ordering columns is no news, even when something else differs."""
    row = prediction(seconds=1)
    write(store, spark, [[row], [row | {"prediction": 99.0, "model_version": "other"}]])
    expect(store, [row])


def check_later_scoring_of_one_event_wins(store: Store, spark: SparkSession) -> None:
    """The same event scored twice: the later scoring stands, a millisecond is enough, the order of arrival is not asked."""
    early, late = prediction("a", scored_ms=1), prediction("a", scored_ms=2, model_version="2", probability=None)
    write(store, spark, [[early, late | {"key": "b"}], [late, early | {"key": "b"}]])
    expect(store, [early, late, late | {"key": "b"}])


def check_models_are_independent(store: Store, spark: SparkSession) -> None:
    """Two models of one key stand beside each other; each has its own newest; `get` gives them in name order."""
    rows = [prediction(seconds=5, model="zebra"), prediction(seconds=1, model="ant"), prediction(seconds=3, model="Mole")]
    later = [prediction(seconds=2, offset=1, model="ant"), prediction(seconds=4, offset=1, model="zebra")]
    write(store, spark, [rows, later])
    expect(store, rows + later)


def check_odd_keys(store: Store, spark: SparkSession) -> None:
    """Any text is a key: empty, quotes, blanks, line ends, NUL, other scripts, emoji, very long, and alike but not equal."""
    noise = random.Random(7)
    long = "".join(noise.choice("abcdefghijklmnopqrstuvwxyzäöü0123456789") for _ in range(20_000))
    keys = [
        "",
        " ",
        "a",
        "A",
        " a",
        "a ",
        "'",
        '"',
        "`",
        "\\",
        "\\n",
        "\n",
        "\r\n",
        "\t",
        "%",
        "%s",
        "{}",
        "a;b",
        "a'--",
        "*",
        "[a]",
        "null",
        "None",
        "0",
        "00",
    ]
    keys += [
        "é",
        "e\u0301",
        "日本",
        "🙂",
        "👩‍👩‍👧",
        "a\x00b",
        "a\x00",
        "\x00",
        "␀",
        "␛␀",
        "␛",
        "a␀b",
        "\x1b",
        "\ufeff",
        "\U0010ffff",
        long,
        long + "x",
        long[:2_000],
    ]
    first = [prediction(key, seconds=i, event_id=f"events:0:{i}") for i, key in enumerate(keys)]
    second = [prediction(key, seconds=i + 0.5, offset=1, model_version=f"v {key[:9]}") for i, key in enumerate(keys)]
    write(store, spark, [first, second, first])
    expect(store, second)


def check_doubles_are_exact(store: Store, spark: SparkSession) -> None:
    """Prediction and probability come back as the same doubles, the infinite and NaN too; null and empty stay apart."""
    values = [
        0.0,
        -0.0,
        5e-324,
        -5e-324,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        -1.7976931348623157e308,
        0.1,
        1 / 3,
        1e22,
        2.0**53 + 2,
        1e16,
    ]
    values += [math.inf, -math.inf, math.nan]
    rows = [prediction(model=f"m{i}", prediction=value, probability=[value, 1.0]) for i, value in enumerate(values)]
    rows += [
        prediction(model="all", probability=values),
        prediction(model="none", probability=None),
        prediction(model="empty", probability=[]),
    ]
    write(store, spark, [rows])
    expect(store, rows)


def check_probability_may_become_null(store: Store, spark: SparkSession) -> None:
    """A newer row replaces the whole row: its null replaces an array, its array replaces a null."""
    rows = [prediction("a"), prediction("b", probability=None)]
    later = [prediction("a", seconds=1, probability=None), prediction("b", seconds=1, probability=[1.0])]
    write(store, spark, [rows, later])
    expect(store, rows + later)


def check_times_are_exact(store: Store, spark: SparkSession) -> None:
    """Times keep their microseconds from the year 1 to 9999, come back in UTC, and are compared as times."""
    times = [datetime.min, datetime(1582, 10, 10), datetime(1883, 11, 18, 12, 3, 57, 999999), datetime(1969, 12, 31, 23, 59, 59, 999999)]
    times += [datetime(1970, 1, 1), datetime(2024, 3, 31, 1, 30), datetime(2024, 10, 27, 0, 30), datetime(2262, 4, 12), datetime.max]
    zoned = [time.replace(tzinfo=UTC) for time in times]
    rows = [prediction(model=f"m{i}", event_time=time, scored_at=time) for i, time in enumerate(zoned)]
    newer = [row | {"event_time": zoned[i + 1], "prediction": -1.0, "source_offset": 0} for i, row in enumerate(rows[:-1])]
    write(store, spark, [rows])
    expect(store, rows)
    write(store, spark, [newer, rows], first=1)
    expect(store, rows + newer)
    assert all(row["event_time"].utcoffset() == timedelta(0) for row in store.get("a") if isinstance(row["event_time"], datetime)), (
        "not UTC"
    )


def check_large_offsets(store: Store, spark: SparkSession) -> None:
    """Offsets are 64-bit integers: neighbours above 2^53 are told apart, and 9 is below 10."""
    pairs = [(9, 10), (99, 100), (2**31 - 1, 2**31), (2**53, 2**53 + 1), (2**63 - 2, 2**63 - 1)]
    low = [prediction(model=f"{i}-{way}", offset=a, prediction=1.0) for i, (a, _) in enumerate(pairs) for way in ("up", "down")]
    high = [prediction(model=f"{i}-{way}", offset=b, prediction=2.0) for i, (_, b) in enumerate(pairs) for way in ("up", "down")]
    top = prediction(partition=2**31 - 1, offset=2**63 - 1)
    write(store, spark, [_pick(low, "up") + _pick(high, "down") + [top], _pick(high, "up") + _pick(low, "down")])
    expect(store, [*high, top])


def check_empty_batch(store: Store, spark: SparkSession) -> None:
    """A batch without rows is a batch: nothing changes, before the first row and after it."""
    write(store, spark, [[], [prediction()], []])
    expect(store, [prediction()])


def check_unknown_key(store: Store, spark: SparkSession) -> None:
    """A key that was never written gives an empty list, in an empty store and beside other keys."""
    assert store.get("nobody") == []
    assert store.count() == 0
    write(store, spark, [[prediction("somebody")]])
    assert store.get("nobody") == []
    assert store.get("some") == []
    assert store.get("somebody ") == []


def check_many_partitions(store: Store, spark: SparkSession) -> None:
    """A frame of many partitions, some or most of them empty, is written whole."""
    rows = [prediction(chr(97 + i % 3), seconds=i, model=f"m{i}") for i in range(60)]
    few = [prediction(chr(97 + i % 3), seconds=i + 1, offset=1, model=f"m{i}") for i in range(3)]
    store.upsert(frame(spark, rows).repartition(16), 0)
    store.upsert(frame(spark, few).repartition(16), 1)
    expect(store, rows + few)


def check_prepare_again(store: Store, spark: SparkSession) -> None:
    """`prepare` of a store that holds rows keeps them."""
    write(store, spark, [[prediction()]])
    store.prepare()
    expect(store, [prediction()])


def check_two_writers(store: Store, spark: SparkSession) -> None:
    """Two threads write rows of the same keys at the same time, each the newest in the middle: it stands, whoever ends last."""
    batches = [[prediction("ab"[i % 2], seconds=s, offset=s, model=f"m{i}") for i in range(20)] for s in range(4)]
    with ThreadPoolExecutor(2) as pool:
        writers = [
            pool.submit(write, store, spark, [batches[i] for i in turns], first=first)
            for first, turns in ((0, (1, 3, 0)), (100, (2, 3, 1)))
        ]
        for writer in writers:
            writer.result()
    expect(store, [row for rows in batches for row in rows])


def check_splits_and_orders(store: Store, spark: SparkSession) -> None:
    """Random rows over few keys, in random batches with repeats: the store is a function of the set of rows."""
    chance = random.Random(20240131)
    rows = [
        prediction(
            chance.choice("abcd"), seconds=chance.randrange(3), partition=chance.randrange(2), offset=chance.randrange(3), scored_ms=chance.randrange(2),
            model=chance.choice(["champion", "trial"]),
        )
        for _ in range(60)
    ]  # fmt: skip
    again = rows + chance.sample(rows, 20)
    chance.shuffle(again)
    cuts = sorted(chance.sample(range(len(again)), 5))
    parts = [again[a:b] for a, b in zip([0, *cuts], [*cuts, len(again)], strict=True)]
    write(store, spark, [list(newest(part).values()) for part in parts])
    expect(store, rows)


#: Every check of the contract.
STORE_CHECKS: Final[tuple[Callable[[Store, SparkSession], None], ...]] = (
    check_newest_wins_in_any_order,
    check_older_never_overwrites,
    check_repeat_changes_nothing,
    check_equal_order_keeps_the_first,
    check_later_scoring_of_one_event_wins,
    check_models_are_independent,
    check_odd_keys,
    check_doubles_are_exact,
    check_probability_may_become_null,
    check_times_are_exact,
    check_large_offsets,
    check_empty_batch,
    check_unknown_key,
    check_many_partitions,
    check_prepare_again,
    check_two_writers,
    check_splits_and_orders,
)
