"""The sections of a configuration: what each key means, and what its value may be."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from streaming.config.values import Duration, LearnerName, Name, Section, Size, Topic, is_loopback


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
    #: An event whose time is further ahead of its record's own timestamp is rejected. None: any time is believed.
    max_future: Duration | None = "1 hour"
    #: Extra top-level columns for the model, column name -> dotted path of a nested field.
    columns: dict[str, str] = Field(default_factory=dict)
    #: Where a job without a checkpoint starts.
    starting: Literal["earliest", "latest"] = "earliest"
    #: When the broker has deleted events that the job has not read yet: stop (and say so), or go on without them.
    on_data_loss: Literal["fail", "continue"] = "fail"


class Limits(Section):
    """What the process of a model may use that scores in Python. Beyond it the process is ended, and the next call starts a new one."""

    memory: Size = "4 GiB"
    #: How long opening the model may take.
    open: Duration = "2 minutes"
    #: How long one answer may take: in the job of a batch of rows, in the API of a request.
    score: Duration = "30 seconds"


class Signature(Section):
    """A signature of the model's files, made by `streaming sign`, and the key that it has to be by."""

    file: str
    #: PEM of a public key on an elliptic curve, on the machine of the driver and of the API.
    public_key: str


class SavedModel(Section):
    """The saved model that scores every event."""

    name: Name
    version: str = Field(min_length=1)
    #: What saved the model; each format but spark needs the extra of its name: pip install 'streaming-scoring[onnx]'.
    format: Literal["spark", "sklearn", "onnx", "pmml", "mlflow"] = "spark"
    uri: str = Field(min_length=1)
    #: Expected sha256 of the model's files, as `streaming train` and `streaming fingerprint` print it.
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    #: Load formats that can run any code when opened (pickle). Only for files whose origin you trust.
    trust: bool = False
    #: Further classes that may be loaded: prefixes of Spark ML stages beside Spark's own, or types in a .skops file.
    allow_classes: tuple[str, ...] = ()
    #: spark: "auto" scores by one plain expression wherever that is proven to answer as the saved stages do; "never" by the stages.
    fold: Literal["auto", "never"] = "auto"
    #: sklearn, onnx, pmml, mlflow: a limit for the process that opens the file.
    limits: Limits = Field(default_factory=Limits)
    #: Checked before anything of the model is opened. Extra: sign.
    signature: Signature | None = None
    #: Refuse a configuration whose model is not signed.
    require_signature: bool = False

    @model_validator(mode="after")
    def _signed(self) -> SavedModel:
        if self.require_signature and self.signature is None:
            raise ValueError("require_signature: true needs signature: {file, public_key}; make one with: streaming sign CONFIG --key KEY")
        return self


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


class LearnerSection(Section):
    """A model that keeps learning from labels while it scores."""

    name: LearnerName
    #: One of the algorithms of streaming.online.algorithms.
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


#: Jobs without a port of their own that find one beside each other.
_JOBS_OF_A_MACHINE: Final = 16


class JobSection(Section):
    """How the long-running job treats its lanes, and where it says how they are."""

    #: A lane that dies: restart it, or leave it down when restarting cannot help, while the others go on; or end the job, so that a
    #: supervisor decides.
    on_lane_failure: Literal["continue", "stop"] = "continue"
    #: How long a stop waits for the batches that are under way. A boundary of real-time mode that is further away is not waited for.
    stop_within: Duration = "5 seconds"
    #: The address of the port for /healthz, /readyz and /metrics.
    host: str = "127.0.0.1"
    #: 0 takes any free port; the log says which. null: no such port. One that is taken is waited for where this is set, else the next is tried.
    port: int | None = Field(default=9464, ge=0, le=65535)

    @property
    def asks_for_port(self) -> bool:
        """Whether the file says where to answer, so that no other port would do."""
        return self.port is not None and bool(self.model_fields_set & {"host", "port"})

    def ports(self) -> range:
        """The ports that the job may answer on, the first free one of them; those behind the default are for further jobs of one machine."""
        n = 0 if self.port is None else 1 if self.asks_for_port else _JOBS_OF_A_MACHINE
        return range(self.port or 0, (self.port or 0) + n)


class Spark(Section):
    """Settings of the Spark session, for `streaming serve` on one machine; spark-submit's own settings win."""

    master: str | None = None
    options: dict[str, str] = Field(default_factory=dict)


def strong_token(token: SecretStr | None) -> SecretStr | None:
    """The token, if it is long enough not to be guessed and fit for a header. ValueError, which does not show it, if not."""
    text = None if token is None else token.get_secret_value()
    if text is not None and (len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text):
        raise ValueError("expected at least 16 printable ASCII characters without spaces; make one with: openssl rand -hex 24")
    return token


class Tls(Section):
    """The API's own certificate; both files are read again when they change."""

    #: PEM: the certificate, then those that lead to a root.
    cert: str
    #: PEM, without a password; mode 0600.
    key: str


class Api(Section):
    """`streaming api CONFIG`: the saved model and the stored predictions over HTTP."""

    #: The address to listen on. Anything but this machine's own needs a token.
    host: str = "127.0.0.1"
    #: 0 takes any free port; the log says which.
    port: int = Field(default=8000, ge=0, le=65535)
    #: What every caller sends as "Authorization: Bearer TOKEN"; "${env:API_TOKEN}". At least 16 characters.
    token: SecretStr | None = None
    #: A file of tokens with names and roles, read again when it changes; see docs/api.md.
    tokens: str | None = None
    #: Certificate and key. null: plain HTTP, for this machine alone or behind a proxy that speaks TLS.
    tls: Tls | None = None
    #: Connections at once; of more, the one that has been idle longest is closed.
    max_connections: int = Field(default=1000, ge=1)
    #: A longer request body is refused with 413 before it is read.
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    #: Rows in one request.
    max_instances: int = Field(default=1000, ge=1)
    #: What one client (one address) may ask per second, and as many again in one burst. null: no limit.
    requests_per_second: float | None = Field(default=5000.0, gt=0.0)
    #: A portable package of the model (see `streaming package`). null: made of model.uri at the start, and kept in `cache`.
    package: str | None = None
    #: Where packages made of model.uri are kept, one folder per model fingerprint.
    cache: str = ".cache/packages"
    #: How often the model's files and CONFIG are looked at for a new version.
    watch: Duration = "2 seconds"
    #: Where the page Health asks the job, such as "http://scoring-job:9464". null: job.host and job.port, on this machine.
    job: str | None = None
    #: What a probability is the probability of, in the words of the page: "churn". null: the name of the model.
    outcome: str | None = None
    #: What a key of the store names, in the words of the page.
    entity: str = "customer"
    #: The values that the page starts with, by field.
    example: dict[str, str | float | list[float] | None] = Field(default_factory=dict)

    _strong = field_validator("token")(strong_token)

    @field_validator("job")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("expected an address that begins with http:// (or https://)")
        return None if value is None else value.rstrip("/")

    @model_validator(mode="after")
    def _open_to_others_only_with_a_token(self) -> Api:
        if self.token is None and self.tokens is None and not is_loopback(self.host):
            raise ValueError(
                f"token: missing; host {self.host} can be reached from other machines, so callers must show a token; "
                'set token: "${env:API_TOKEN}" or tokens: FILE, or host: 127.0.0.1'
            )
        return self
