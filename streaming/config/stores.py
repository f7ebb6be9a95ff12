"""The sections of the operational stores: one for each kind."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr

from streaming.config.values import Duration, Section


class _StoreSection(Section):
    #: Pause between two batches; less than a second takes CPU time from the score lane and shows in its latency.
    trigger: Duration = "1 second"
    #: At most this many predictions per batch.
    max_predictions_per_trigger: int = Field(default=200_000, ge=1)


class SqliteSection(_StoreSection):
    """A SQLite file beside the driver: one machine, no server."""

    kind: Literal["sqlite"]
    path: str
    table: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "predictions"


class PostgresSection(_StoreSection):
    """A PostgreSQL table."""

    kind: Literal["postgres"]
    #: A libpq connection string, "postgresql://user:${env:PGPASSWORD}@host:5432/database".
    dsn: SecretStr
    #: Optionally schema-qualified: "predictions" or "scoring.predictions".
    table: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "predictions"


class RedisSection(_StoreSection):
    """Redis hashes: one key per entity, one field per model."""

    kind: Literal["redis"]
    #: "redis://:${env:REDIS_PASSWORD}@host:6379/0", or rediss:// for TLS, or unix://path.
    url: SecretStr
    prefix: str = "prediction:"


class DeltaSection(_StoreSection):
    """A Delta table."""

    kind: Literal["delta"]
    uri: str


StoreSection = Annotated[SqliteSection | PostgresSection | RedisSection | DeltaSection, Field(discriminator="kind")]

#: What `store.kind` may say.
KINDS: Final[dict[str, type[Section]]] = {
    "sqlite": SqliteSection,
    "postgres": PostgresSection,
    "redis": RedisSection,
    "delta": DeltaSection,
}
