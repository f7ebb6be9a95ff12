"""The section `monitor`: what is watched, against what, and who is told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from streaming.config.values import Duration, Section, Topic, seconds

#: What a rule can be about.
Subject = Literal["data_drift", "prediction_drift", "quality", "concept_drift", "rejected"]
Severity = Literal["info", "warning", "critical"]
#: notify: topic, webhook and log. freeze_learner: the learners learn no more until `streaming resume`. retrain: the request is written down.
Action = Literal["notify", "freeze_learner", "retrain"]
Statistic = Literal["psi", "js", "ks", "nulls", "unseen", "out_of_range", "accuracy", "loss", "rejected"]


class _On(Section):
    """A section with the key `on`, which YAML 1.1 reads as the word for true unless it stands in quotes."""

    @model_validator(mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        return {"on" if key is True else key: v for key, v in value.items()} if isinstance(value, dict) else value


class Rule(_On):
    """When an alert is raised, and what is done then."""

    on: Subject
    severity: Severity = "warning"
    #: Windows in a row that have to show it before the alert is raised, and that must not before it is over.
    after: int = Field(default=1, ge=1)
    clear_after: int = Field(default=2, ge=1)
    do: tuple[Action, ...] = ("notify",)


class Silence(_On):
    """A time in which nobody is told: every day between two times of the day (UTC), or once between two dates."""

    #: "22:00" or "2026-12-24T18:00:00Z".
    start: str = Field(alias="from")
    until: str
    #: The subjects that are silenced; none named: all.
    on: tuple[Subject, ...] = ()

    @field_validator("start", "until")
    @classmethod
    def _readable(cls, value: str) -> str:
        from datetime import datetime, time

        try:
            time.fromisoformat(value) if len(value) <= 5 else datetime.fromisoformat(value)
        except ValueError as wrong:
            raise ValueError("expected a time of the day such as 22:00, or a date and time such as 2026-12-24T18:00:00Z") from wrong
        return value

    @model_validator(mode="after")
    def _alike(self) -> Silence:
        if (len(self.start) <= 5) != (len(self.until) <= 5):
            raise ValueError("from and until: give two times of the day, or two dates")
        return self


class Webhook(Section):
    """Where an alert is POSTed as JSON."""

    url: SecretStr
    #: Signs the body: the header X-Signature-256 is "sha256=" and the HMAC in hex.
    secret: SecretStr | None = None
    timeout: Duration = "5 seconds"
    #: How often one alert is tried in one batch; what could not be delivered is tried again with the next.
    tries: int = Field(default=3, ge=1, le=10)

    @field_validator("url")
    @classmethod
    def _http(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("expected an address that begins with https:// (or http://)")
        return value


_RULES = (
    Rule(on="data_drift"),
    Rule(on="prediction_drift"),
    Rule(on="quality", severity="critical"),
    Rule(on="concept_drift", severity="critical"),
    Rule(on="rejected"),
)


class Alerts(Section):
    """Who is told when something has gone wrong."""

    topic: Topic | None = None
    webhook: Webhook | None = None
    rules: tuple[Rule, ...] = _RULES
    silence: tuple[Silence, ...] = ()

    @field_validator("rules")
    @classmethod
    def _once(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        subjects = [rule.on for rule in rules]
        twice = next((s for s in subjects if subjects.count(s) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules on {twice}; one rule a subject")
        return rules


class Monitor(Section):
    """How the MONITOR lane watches. The lane runs when the section is there, be it empty (`monitor: {}`)."""

    #: The length of a window; a row belongs to the window in which its record arrived at the broker.
    window: Duration = "5 minutes"
    #: A window with fewer rows is judged together with those before it.
    least_rows: int = Field(default=200, ge=50)
    trigger: Duration = "30 seconds"
    #: Of the events, by a stable hash of their place: an event and all its answers are in, or out.
    sample: float = Field(default=1.0, gt=0.0, le=1.0)
    #: Text fields whose values make slices that are watched by themselves.
    slices: tuple[str, ...] = ()
    #: A baseline file (streaming baseline writes one). None: the one in the state folder if there is one, else the model's own.
    baseline: str | None = None
    #: Where each window's figures are published.
    topic: Topic | None = None
    #: How large a difference must be, by statistic.
    thresholds: dict[Statistic, float] = Field(default_factory=dict)
    #: The share of quiet windows that may alarm.
    alpha: float = Field(default=0.001, gt=0.0, lt=0.5)
    #: Answers that are remembered until their label comes; beyond this the oldest are forgotten.
    waiting: int = Field(default=200_000, ge=1_000)
    #: Where a job without a checkpoint of this lane starts.
    starting: Literal["earliest", "latest"] = "latest"
    #: At most this many records per topic and batch.
    max_records_per_trigger: int = Field(default=200_000, ge=1)
    #: Windows that began longer ago are removed from the history.
    keep: Duration = "90 days"
    alerts: Alerts = Alerts()

    @field_validator("window")
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if seconds(value) < 1:
            raise ValueError("expected at least 1 second")
        return value

    @field_validator("thresholds")
    @classmethod
    def _positive(cls, value: dict[Statistic, float]) -> dict[Statistic, float]:
        wrong = next((name for name, limit in value.items() if limit <= 0), None)
        if wrong is not None:
            raise ValueError(f"{wrong}: expected a number above 0")
        return value
