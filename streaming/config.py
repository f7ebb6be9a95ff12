"""The configuration: one YAML file, one tree of typed values.

An unknown key, a missing key or a wrong type is refused with the file, the path inside it and the valid keys.
`${env:VAR}` is the only interpolation. What came from the environment is treated as a secret, unless it stands where
only an address or a name can stand: it never shows in an error, a log line or a repr (:mod:`streaming.secrets`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from streaming import secrets
from streaming.errors import ConfigError

_ENV: Final = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
#: Keys whose values are addresses and names, not secrets: someone stuck needs to read them in an error.
_PUBLIC: Final = frozenset(
    {
        "bootstrap_servers",
        "topic",
        "rejected_topic",
        "shadow_topic",
        "name",
        "version",
        "uri",
        "path",
        "table",
        "state",
        "master",
        "data",
        "kind",
        "mode",
        "trigger",
    }
)
_DURATION: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|seconds?|m|minutes?|h|hours?|d|days?)$")
_SECONDS: Final = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str) -> float:
    """A duration such as "500 ms", "20 seconds" or "1 minute" in seconds. ValueError on anything else."""
    match = _DURATION.match(duration.strip().lower())
    if match is None:
        raise ValueError('expected a number and a unit, such as "500 ms", "20 seconds" or "1 minute"')
    unit = match[2]
    key = "ms" if unit == "ms" else "milli" if unit.startswith("milli") else unit[0]
    return float(match[1]) * _SECONDS[key]


def interval(duration: str) -> str:
    """The duration as Spark spells it; Spark knows fewer units than people use."""
    return f"{round(seconds(duration) * 1000)} milliseconds"


def _duration(value: str) -> str:
    seconds(value)
    return value


def _topic(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in {".", ".."}:
        raise ValueError("expected a Kafka topic name: letters, digits, '.', '_' or '-', at most 249 characters")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError("expected a short name: letters, digits, '.', '_' or '-', starting with a letter or a digit")
    return value


Duration = Annotated[str, AfterValidator(_duration)]
Topic = Annotated[str, AfterValidator(_topic)]
Name = Annotated[str, AfterValidator(_name)]
#: The name of a learner is also that of a folder and of a column: no dots.
LearnerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class Section(BaseModel):
    """A part of the configuration: frozen, and refusing what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)


class Kafka(Section):
    """Where the broker is, and the client options that every Kafka client gets (TLS, SASL)."""

    bootstrap_servers: str
    options: dict[str, SecretStr] = Field(default_factory=dict)

    def plain_options(self) -> dict[str, str]:
        """The client options with their secrets in the clear: for a client, never for a log."""
        return {key: value.get_secret_value() for key, value in self.options.items()}


class Events(Section):
    """The input topic: how a value is decoded, and which fields say who and when."""

    topic: Topic
    #: A Spark DDL string, such as "customer_id STRING, tenure INT, charges STRUCT<monthly: DOUBLE>".
    ddl: str = Field(alias="schema")
    #: Dotted path of the field that names the entity.
    key: str
    #: Dotted path of the event's time: ISO 8601 text, epoch seconds or milliseconds. None: the Kafka record's time.
    time: str | None = None
    #: Extra top-level columns for the model, column name -> dotted path of a nested field.
    columns: dict[str, str] = Field(default_factory=dict)
    #: Where a job without a checkpoint starts.
    starting: Literal["earliest", "latest"] = "earliest"
    #: When the broker has deleted events that the job has not read yet: stop (and say so), or go on without them.
    on_data_loss: Literal["fail", "continue"] = "fail"


class SavedModel(Section):
    """The saved model that scores every event."""

    name: Name
    version: str = Field(min_length=1)
    format: str = "spark"
    uri: str = Field(min_length=1)
    #: Expected sha256 of the model's files, as `streaming train` and `streaming fingerprint` print it.
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    #: Load formats that can run any code when opened (pickle). Only for files whose origin you trust.
    trust: bool = False
    #: Further class-name prefixes of Spark ML stages that may be loaded, beside Spark's own.
    allow_classes: tuple[str, ...] = ()


class Score(Section):
    """How the SCORE lane runs."""

    mode: Literal["realtime", "microbatch"] | None = None
    #: realtime: how often offsets are committed (at least 5 seconds). microbatch: pause between batches, "0 seconds" for none.
    trigger: Duration | None = None
    #: microbatch: at most this many events per batch, over all partitions.
    max_events_per_trigger: int | None = Field(default=None, ge=1)


class Predictions(Section):
    """The output topics."""

    topic: Topic
    rejected_topic: Topic
    shadow_topic: Topic | None = None


class _StoreSection(Section):
    #: Pause between two batches; less than a second takes CPU time from the score lane and shows in its latency.
    trigger: Duration = "1 second"
    #: At most this many predictions per batch.
    max_predictions_per_trigger: int = Field(default=200_000, ge=1)


class SqliteStore(_StoreSection):
    """A SQLite file beside the driver: one machine, no server."""

    kind: Literal["sqlite"]
    path: str
    table: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "predictions"


class PostgresStore(_StoreSection):
    """A PostgreSQL table."""

    kind: Literal["postgres"]
    #: A libpq connection string, "postgresql://user:${env:PGPASSWORD}@host:5432/database".
    dsn: SecretStr
    #: Optionally schema-qualified: "predictions" or "scoring.predictions".
    table: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "predictions"


class RedisStore(_StoreSection):
    """Redis hashes: one key per entity, one field per model."""

    kind: Literal["redis"]
    #: "redis://:${env:REDIS_PASSWORD}@host:6379/0", or rediss:// for TLS, or unix://path.
    url: SecretStr
    prefix: str = "prediction:"


class DeltaStore(_StoreSection):
    """A Delta table."""

    kind: Literal["delta"]
    uri: str


StoreSection = Annotated[SqliteStore | PostgresStore | RedisStore | DeltaStore, Field(discriminator="kind")]


class Train(Section):
    """How `streaming train` builds the pipeline from a table."""

    #: Path or URI of the training table.
    data: str
    format: Literal["csv", "parquet", "delta"] = "parquet"
    label: str
    #: For text labels of a classifier: which one counts as 1. None: labels are numbers or are indexed by frequency.
    positive_label: str | None = None
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    algorithm: Literal[
        "logistic_regression",
        "random_forest_classifier",
        "gbt_classifier",
        "naive_bayes",
        "mlp_classifier",
        "linear_regression",
        "random_forest_regressor",
        "gbt_regressor",
        "generalized_linear_regression",
        "kmeans",
    ] = "logistic_regression"
    #: Parameters of the algorithm, by their Spark ML names.
    params: dict[str, Any] = Field(default_factory=dict)
    test_fraction: float = Field(default=0.2, gt=0.0, lt=1.0)
    seed: int = 42


class Learner(Section):
    """A model that keeps learning from labels while it scores."""

    name: LearnerName
    #: One of the algorithms of streaming.online.registry.
    algorithm: str
    role: Literal["champion", "shadow"] = "shadow"
    #: Parameters of the algorithm; `compat: mllib` asks for Spark's own arithmetic.
    params: dict[str, Any] = Field(default_factory=dict)
    #: "model": start from the coefficients of the saved pipeline's last stage. A URI: from a fitted model there.
    warm_start: str | None = None
    #: Rows over which the prequential metrics and the divergence test look back.
    window: int = Field(default=5_000, ge=100)


class Labels(Section):
    """Where the truth comes from: a topic of late labels, or a field of the event itself. Exactly one of `topic` and `field`."""

    topic: Topic | None = None
    #: Dotted path of the event's own field that holds the label, for events that already know it.
    field: str | None = None
    #: Spark DDL of a label record. None: made of the fields below; text key and time, numeric label.
    ddl: str | None = Field(default=None, alias="schema")
    #: The field that names the entity, as events.key does for events.
    key: str = "key"
    #: The field with the time *of the event that the label is about*, as the event gave it.
    time: str = "event_time"
    #: The field with the label itself: a number.
    label: str = "label"
    #: How long, in event time, a prediction waits for its label, and a label for its prediction.
    max_delay: Duration = "1 hour"

    @model_validator(mode="after")
    def _one_source(self) -> Labels:
        if (self.topic is None) == (self.field is None):
            raise ValueError("give either topic (late labels) or field (the event carries its label), not both")
        return self


class Learn(Section):
    """How the LEARN lane runs."""

    trigger: Duration = "1 second"
    #: Partitions that learn side by side. 1: exactly the sequential algorithm.
    partitions: int = Field(default=1, ge=1)
    #: At most this many records per topic and batch.
    max_records_per_trigger: int = Field(default=100_000, ge=1)


class Spark(Section):
    """Settings of the Spark session, for `streaming serve` on one machine; spark-submit's own settings win."""

    master: str | None = None
    options: dict[str, str] = Field(default_factory=dict)


class Config(Section):
    """The whole configuration of one scoring service."""

    name: Name
    kafka: Kafka
    events: Events
    model: SavedModel
    score: Score = Score()
    predictions: Predictions
    store: StoreSection
    state: str
    learners: tuple[Learner, ...] = ()
    labels: Labels | None = None
    learn: Learn = Learn()
    train: Train | None = None
    spark: Spark = Spark()

    @model_validator(mode="after")
    def _learners_fit(self) -> Config:
        names = [self.model.name, *(learner.name for learner in self.learners)]
        # Upper and lower case are the same to Spark's columns, and to some disks.
        repeated = [name for i, name in enumerate(names) if name.lower() in map(str.lower, names[:i])]
        if repeated:
            raise ValueError(f"learners: the name {repeated[0]!r} is used twice; the model and every learner need names of their own")
        if sum(learner.role == "champion" for learner in self.learners) > 1:
            raise ValueError("learners: two champions; consumers see one answer per event, so at most one learner may be champion")
        if self.learners and self.labels is None:
            raise ValueError("labels: missing; learners need a topic of labels, or a field of the event that holds the label")
        if self.learners and self.predictions.shadow_topic is None:
            raise ValueError(
                "predictions.shadow_topic: missing; with learners there are models beside the champion, and their answers go there"
            )
        return self

    @property
    def champion(self) -> str:
        """The name of the model whose answers consumers see."""
        return next((learner.name for learner in self.learners if learner.role == "champion"), self.model.name)


def load(path: str | Path) -> Config:
    """Read and check a configuration file. ConfigError names the file, the path inside it and what would be valid."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        raise ConfigError(f"{file}: no such file; start from a copy of conf/production.yaml") from missing
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(f"{file}: cannot be read: {unreadable}") from unreadable
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as broken:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(broken).split())}") from broken
    return parse(tree, source=str(file))


def parse(tree: Any, *, source: str = "config") -> Config:
    """Check a configuration given as plain Python values; `source` is the name that errors show."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping with the keys {', '.join(_keys(Config))}; got {type(tree).__name__}")
    try:
        return Config.model_validate(_interpolate(tree, source, ()))
    except ValidationError as invalid:
        lines = [_explain(error, source) for error in invalid.errors(include_url=False, include_context=True)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _interpolate(value: Any, source: str, path: tuple[str, ...]) -> Any:
    """Replace `${env:VAR}` in every string below `value`, and remember what was put in as a secret."""
    if isinstance(value, dict):
        return {key: _interpolate(child, source, (*path, str(key))) for key, child in value.items()}
    if isinstance(value, list):
        return [_interpolate(child, source, (*path, str(i))) for i, child in enumerate(value)]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigError(f"{source}: {'.'.join(path)}: the environment variable {match[1]} is not set; export it before the start")
        if path[-1] not in _PUBLIC:
            secrets.remember(found)
        return found

    return _ENV.sub(substitute, value)


def _keys(section: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]


def _explain(error: ErrorDetails, source: str) -> str:
    """One line for one pydantic error, in the words of this project."""
    loc = [str(part) for part in error["loc"]]
    section = _section_at(loc[:-1])
    # The kind of a store is a step of pydantic's, not of the file's.
    path = ".".join(part for i, part in enumerate(loc) if not (part in _KINDS and loc[:i] == ["store"]))
    valid = f"; valid keys: {', '.join(_keys(section))}" if section is not None else ""
    match error["type"]:
        case "extra_forbidden":
            return f"{source}: {path}: unknown key{valid}"
        case "missing":
            return f"{source}: {path}: missing{valid}"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"{source}: {path}.kind: expected one of {', '.join(sorted(_KINDS))}"
        case "value_error":
            # What is wrong with the whole has no path; its message begins with one.
            return ": ".join(filter(None, (source, path, str(error.get("ctx", {}).get("error", error["msg"])))))
        case _:
            return f"{source}: {path}: {error['msg'][0].lower()}{error['msg'][1:]}"


_KINDS: Final[dict[str, type[BaseModel]]] = {"sqlite": SqliteStore, "postgres": PostgresStore, "redis": RedisStore, "delta": DeltaStore}


def _section_at(loc: list[str]) -> type[BaseModel] | None:
    """The section that holds the key an error is about, or None inside a free-form mapping."""
    section: type[BaseModel] = Config
    for part in loc:
        if part in _KINDS:
            section = _KINDS[part]
            continue
        if part == "store" and section is Config:
            continue
        if part.isdigit():
            continue  # a place in a list: the section is that of the list's items
        field = next((f for name, f in section.model_fields.items() if part in {name, f.alias}), None)
        if field is None:
            return None
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        nested = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if nested is None:
            return None
        section = nested
    return section
