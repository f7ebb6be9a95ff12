"""Telco customers who may churn: generated rows under a known law, a drift of that law, and labels that come late.

Everything is a pure function of (seed, number): customer 17 of seed 1 is the same person in a training table, in a
stream and in a replay that starts at event 17. Nothing here keeps a random state.

The law. The log-odds of churn are linear in the columns of :func:`design`; the coefficients are the fields of
:class:`Regime`:

    P(churn) = 1 / (1 + exp(-(intercept + sum over the fields f of coefficient_f * design_f)))

>>> import numpy as np
>>> people = customers(50_000, seed=1)
>>> round(float(np.mean(churn_probability(people, regime=BEFORE))), 2)
0.26
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.demo.chance import uniform

if TYPE_CHECKING:
    import pandas as pd

#: One NumPy array per column, all of one length.
Columns = dict[str, NDArray[Any]]

NUMERIC: Final = ("senior_citizen", "tenure", "monthly_charges", "total_charges")
CATEGORICAL: Final = (
    "gender", "partner", "dependents", "phone_service", "multiple_lines", "internet_service", "online_security", "online_backup",
    "device_protection", "tech_support", "streaming_tv", "streaming_movies", "contract", "paperless_billing", "payment_method",
)  # fmt: skip

#: The event as Spark reads it from JSON; `event_time` is ISO 8601 text.
EVENT_DDL: Final = (
    "customer_id STRING, event_time STRING, gender STRING, senior_citizen INT, partner STRING, dependents STRING, tenure INT, "
    "phone_service STRING, multiple_lines STRING, internet_service STRING, online_security STRING, online_backup STRING, "
    "device_protection STRING, tech_support STRING, streaming_tv STRING, streaming_movies STRING, contract STRING, "
    "paperless_billing STRING, payment_method STRING, monthly_charges DOUBLE, total_charges DOUBLE"
)

#: How many customers the company has, unless told otherwise: events come from these again and again.
POPULATION: Final = 7043

#: Add-on services, and the share of internet customers who have each, with its price per month.
_ADD_ONS: Final = {
    "online_security": (0.36, 5.0), "online_backup": (0.44, 5.0), "device_protection": (0.44, 5.0),
    "tech_support": (0.37, 5.0), "streaming_tv": (0.49, 10.0), "streaming_movies": (0.49, 10.0),
}  # fmt: skip

_BLOCK: Final = 1024


@dataclass(frozen=True)
class Regime:
    """The coefficients of the law while it holds. Each multiplies the column of :func:`design` with its name."""

    intercept: float
    #: Contract, against "One year".
    month_to_month: float
    two_year: float
    #: Internet, against "DSL".
    fiber_optic: float
    no_internet: float
    #: Per year as a customer.
    tenure_years: float
    #: Per 10 units of money above 65 a month.
    monthly_charges_10: float
    electronic_check: float
    paperless: float
    senior: float
    dependents: float
    #: Has internet, without the add-on that keeps people.
    no_online_security: float
    no_tech_support: float


#: Short contracts and fiber are where customers leave: the company as everybody knows it.
BEFORE: Final = Regime(
    intercept=-2.1, month_to_month=1.3, two_year=-1.0, fiber_optic=1.0, no_internet=-0.7, tenure_years=-0.30, monthly_charges_10=0.05,
    electronic_check=0.4, paperless=0.3, senior=0.3, dependents=-0.2, no_online_security=0.4, no_tech_support=0.4,
)  # fmt: skip

#: The network is upgraded and fiber customers stay; a promotion makes the monthly contract the one to keep; a price
#: rise makes the bill count for much more.
AFTER: Final = replace(BEFORE, intercept=0.2, month_to_month=-1.4, two_year=-0.2, fiber_optic=-2.0, monthly_charges_10=0.75)


def mix(a: Regime, b: Regime, *, fraction: float) -> Regime:
    """The law on its way from `a` (fraction 0) to `b` (fraction 1), coefficient by coefficient: gradual drift."""
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction: expected 0 to 1, got {fraction}")
    return Regime(**{f.name: (1.0 - fraction) * getattr(a, f.name) + fraction * getattr(b, f.name) for f in fields(Regime)})


@dataclass(frozen=True)
class LateLabels:
    """How long the truth takes: exponential with mean about `mean_s` seconds, and never longer than `max_s`."""

    mean_s: float = 20.0
    max_s: float = 120.0

    def delay_s(self, seed: int, index: int) -> float:
        """The delay of the label of event `index`, in [0, max_s): the same in every replay.

        Exponential cut off at max_s, by inversion: -mean * ln(1 - u * (1 - exp(-max/mean))).
        """
        return float(self.delays_s(seed, np.array([index]))[0])

    def delays_s(self, seed: int, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """:meth:`delay_s` of many events at once, in the shape of `index`."""
        return np.asarray(-self.mean_s * np.log1p(uniform(seed, index, "delay") * np.expm1(-self.max_s / self.mean_s)))


@dataclass(frozen=True)
class Occurrence:
    """One event of the stream, its label, and how long after the event the label comes."""

    index: int
    event: Mapping[str, Any]
    label: Mapping[str, Any]
    delay_s: float
    #: The probability that the law gave: what a perfect model would have said.
    probability: float

    def at(self, when: datetime) -> Occurrence:
        """The same occurrence at another time: for a producer that stamps events when it sends them. `when`: aware."""
        stamps = {"event_time": _iso(when)}
        late = {"label_time": _iso(when + timedelta(seconds=self.delay_s))}
        return replace(self, event={**self.event, **stamps}, label={**self.label, **stamps, **late})


def stream(
    seed: int, *, start: datetime, regime_at: Callable[[int], Regime] = lambda _: BEFORE, interval_s: float = 0.01,
    first: int = 0, population: int = POPULATION, late: LateLabels = LateLabels(),
) -> Iterator[Occurrence]:  # fmt: skip
    """Events without end, from number `first` on. Event i is the same wherever the stream starts.

    Each event is a customer of the population as the company sees them today; its label says whether they leave.
    Event i happens at `start` (aware) + i * `interval_s`. `regime_at` is asked once for each event, when it is due.
    """
    while True:
        block = np.arange(first, first + _BLOCK - first % _BLOCK)
        who = np.floor(uniform(seed, block, "who") * population).astype(np.int64)
        people = _customers(who, seed)
        x, u, delays = design(people), uniform(seed, block, "label"), late.delays_s(seed, block).tolist()
        rows = zip(*(column.tolist() for column in people.values()), strict=True)
        for i, row in enumerate(rows):
            index = first + i
            probability = float(_sigmoid(x[i] @ _coefficients(regime_at(index))))
            event = dict(zip(people, row, strict=True))
            label = {"customer_id": event["customer_id"], "label": int(u[i] < probability)}
            yield Occurrence(index, event, label, delays[i], probability).at(start + timedelta(seconds=index * interval_s))
        first += len(block)


def events(seed: int, start: datetime, regime_at: Callable[[int], Regime] = lambda _: BEFORE) -> Iterator[dict[str, Any]]:
    """The events of :func:`stream` alone, as dicts that `json.dumps` takes."""
    return (dict(occurrence.event) for occurrence in stream(seed, start=start, regime_at=regime_at))


def customers(n: int, seed: int, *, first: int = 0) -> Columns:
    """Customers number `first` to `first + n - 1`: columns customer_id, gender, ..., total_charges, each of length n.

    The columns agree with each other: without internet the add-ons say "No internet service", without a phone
    multiple_lines says "No phone service" and the internet is DSL, long contracts go with long tenure, the monthly
    charge is the sum of what is booked, and the total is about tenure times the monthly charge.
    """
    return _customers(np.arange(first, first + n), seed)


def _customers(number: NDArray[np.int64], seed: int) -> Columns:
    def yes(purpose: str, p: float | NDArray[np.float64]) -> NDArray[np.bool_]:
        return uniform(seed, number, purpose) < p

    partner, phone, senior = yes("partner", 0.48), yes("phone", 0.90), yes("senior", 0.16)
    net = uniform(seed, number, "internet")
    fiber, none = phone & (net < 0.47), phone & (net > 0.76)
    tenure, contract = _loyalty(number, seed)
    lines = phone & yes("lines", 0.47)
    booked = {name: ~none & yes(name, p) for name, (p, _) in _ADD_ONS.items()}
    price = 20.0 * phone + 5.0 * lines + np.select([none, fiber], [0.0, 50.0], 25.0)
    price = price + sum(cost * booked[name] for name, (_, cost) in _ADD_ONS.items()) + 3.0 * (uniform(seed, number, "price") - 0.5)
    monthly = np.round(price, 2)
    total = np.where(tenure == 1, monthly, np.round(tenure * monthly * (0.94 + 0.12 * uniform(seed, number, "total")), 2))
    pay = uniform(seed, number, "pay")
    return {
        "customer_id": np.char.add("C", np.char.zfill(number.astype(str), 8)),
        "gender": np.where(yes("gender", 0.505), "Male", "Female"),
        "senior_citizen": senior.astype(np.int64),
        "partner": _yes_no(partner),
        "dependents": _yes_no(yes("dependents", np.where(partner, 0.50, 0.11))),
        "tenure": tenure,
        "phone_service": _yes_no(phone),
        "multiple_lines": np.where(phone, _yes_no(lines), "No phone service"),
        "internet_service": np.select([none, fiber], ["No", "Fiber optic"], "DSL"),
        **{name: np.where(none, "No internet service", _yes_no(has)) for name, has in booked.items()},
        "contract": contract,
        "paperless_billing": _yes_no(yes("paperless", np.where(none, 0.29, 0.68))),
        "payment_method": np.select(
            [pay < np.where(fiber, 0.52, 0.22), pay < 0.66, pay < 0.83],
            ["Electronic check", "Mailed check", "Bank transfer (automatic)"],
            "Credit card (automatic)",
        ),
        "monthly_charges": monthly,
        "total_charges": total,
    }


def _loyalty(number: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Months as a customer, 1 to 72, and the contract: the longer the one, the longer the other is likely to be."""
    # Many newcomers, many old hands: a mean of two curves over 1 to 72 months.
    age, old = uniform(seed, number, "tenure"), uniform(seed, number, "old") < 0.45
    tenure = (1 + np.floor(72 * np.where(old, 1 - age**2 * 0.8, age**1.6 * 0.9))).clip(1, 72).astype(np.int64)
    deal, share = uniform(seed, number, "contract"), tenure / 72
    contract = np.select(
        [deal < 0.58 * share**1.3, deal < 0.58 * share**1.3 + 0.10 + 0.22 * share], ["Two year", "One year"], "Month-to-month"
    )
    return tenure, contract


def design(people: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """The columns of the law: shape (n, number of fields of Regime), in the order of those fields."""
    column = {
        "intercept": np.ones(len(people["tenure"])),
        "month_to_month": people["contract"] == "Month-to-month",
        "two_year": people["contract"] == "Two year",
        "fiber_optic": people["internet_service"] == "Fiber optic",
        "no_internet": people["internet_service"] == "No",
        "tenure_years": people["tenure"] / 12.0,
        "monthly_charges_10": (people["monthly_charges"] - 65.0) / 10.0,
        "electronic_check": people["payment_method"] == "Electronic check",
        "paperless": people["paperless_billing"] == "Yes",
        "senior": people["senior_citizen"] == 1,
        "dependents": people["dependents"] == "Yes",
        "no_online_security": people["online_security"] == "No",
        "no_tech_support": people["tech_support"] == "No",
    }
    return np.column_stack([np.asarray(column[f.name], dtype=np.float64) for f in fields(Regime)])


def churn_probability(people: Mapping[str, NDArray[Any]], *, regime: Regime) -> NDArray[np.float64]:
    """The probability of churn of each customer under `regime`, shape (n,): the law itself, without chance."""
    return _sigmoid(design(people) @ _coefficients(regime))


def training_table(n: int, *, seed: int, regime: Regime = BEFORE) -> pd.DataFrame:
    """`n` customers with the column `churn`, "Yes" or "No", drawn from the law: what the company knows from its past."""
    import pandas as pd

    people = customers(n, seed)
    left = uniform(seed, np.arange(n), "past") < churn_probability(people, regime=regime)
    return pd.DataFrame({**people, "churn": _yes_no(left)})


def write_training_table(path: str | Path, n: int, *, seed: int, regime: Regime = BEFORE) -> Path:
    """Write :func:`training_table` as one Parquet or CSV file; the ending of `path` says which. Returns the path."""
    target = Path(path)
    table = training_table(n, seed=seed, regime=regime)
    if target.suffix not in {".csv", ".parquet"}:
        raise ValueError(f"{target}: expected a name that ends in .csv or .parquet")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".csv":
        table.to_csv(target, index=False)
    else:
        table.to_parquet(target, index=False)
    return target


def _yes_no(which: NDArray[np.bool_]) -> NDArray[np.str_]:
    return np.where(which, "Yes", "No")


def _sigmoid(log_odds: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    # The same as 1 / (1 + exp(-x)), which overflows.
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * log_odds))


@lru_cache(maxsize=1024)
def _coefficients(regime: Regime) -> NDArray[np.float64]:
    return np.array([getattr(regime, f.name) for f in fields(Regime)])


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="microseconds")
