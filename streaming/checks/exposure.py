"""What lies open: connections that others on the way can read, and files that other users of this machine can.

Warnings, not errors: a broker behind a wall, or a folder that a group shares on purpose, is the operator's business.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from streaming.config.load import Config
from streaming.config.stores import PostgresSection, RedisSection, SqliteSection
from streaming.config.values import is_loopback
from streaming.runtime import audit, files

#: libpq's modes that speak TLS whatever the server says; "prefer", its default, gives in.
_ENCRYPTED: Final = ("require", "verify-ca", "verify-full")


def warnings(config: Config) -> Iterator[str]:
    """One sentence for each thing that lies open, with the next step."""
    yield from _kafka(config)
    yield from _store(config)
    yield from _api(config)
    for name, path in _private(config):
        yield from _readable(name, path)


def _kafka(config: Config) -> Iterator[str]:
    options = {key.lower(): value for key, value in config.kafka.plain_options().items()}
    protocol = options.get("security.protocol", "PLAINTEXT").upper()
    hosts = [server.rpartition(":")[0].strip() for server in config.kafka.bootstrap_servers.split(",")]
    if "SSL" not in protocol.split("_") and not all(map(is_loopback, hosts)):
        what = "events, predictions and the password" if protocol.startswith("SASL") else "events and predictions"
        yield f"kafka: {protocol}: {what} cross the network unencrypted; set kafka.options.security.protocol: SASL_SSL (or SSL)"
    elif options.get("ssl.endpoint.identification.algorithm", "https") == "":
        yield "kafka: ssl.endpoint.identification.algorithm is empty: any server with a certificate is taken for the broker; leave it out"


def _store(config: Config) -> Iterator[str]:
    if isinstance(config.store, PostgresSection):
        yield from _postgres(config.store.dsn.get_secret_value())
    if isinstance(config.store, RedisSection):
        parsed = urlsplit(config.store.url.get_secret_value())
        if parsed.scheme == "redis" and not is_loopback(parsed.hostname or "localhost"):
            yield "store.url: redis:// is not encrypted, password included; use rediss://"


def _postgres(dsn: str) -> Iterator[str]:
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        parts = conninfo_to_dict(dsn)
    except (ImportError, ProgrammingError):  # the check of the store says so
        return
    hosts = str(parts.get("hostaddr") or parts.get("host") or os.environ.get("PGHOST", "")).split(",")
    mode = str(parts.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer")
    if all(not host or host.startswith(("/", "@")) or is_loopback(host) for host in hosts):
        return
    if mode not in _ENCRYPTED:
        yield f"store.dsn: sslmode={mode} is not encryption (a server, or somebody on the way, can refuse it); use sslmode=verify-full"
    elif mode == "require":
        yield "store.dsn: sslmode=require encrypts, but takes any server for the right one; use sslmode=verify-full with sslrootcert"


def _api(config: Config) -> Iterator[str]:
    if not is_loopback(config.api.host) and config.api.tls is None:
        yield f"api.host: {config.api.host} without api.tls: tokens and answers cross the network unencrypted, unless a proxy speaks TLS for it"


def _private(config: Config) -> Iterator[tuple[str, Path]]:
    """What only the service's own user should read, as far as it is on this machine."""
    if files.is_local(config.state):
        yield "state", files.local_path(config.state)
    if files.is_local(config.model.uri):
        yield "model.uri", files.local_path(config.model.uri)
    if isinstance(config.store, SqliteSection):
        yield "store.path", Path(config.store.path)
    if (log := audit.of(config)) is not None:
        yield "audit", log.path
    if config.api.tokens is not None:
        yield "api.tokens", Path(config.api.tokens)
    if config.api.tls is not None:
        yield "api.tls.key", Path(config.api.tls.key)


def _readable(name: str, path: Path) -> Iterator[str]:
    rights = [verb for verb, bit in (("read", stat.S_IROTH), ("change", stat.S_IWOTH)) if _others_may(path, bit)]
    if rights:
        yield f"{name}: every user of this machine may {' and '.join(rights)} {path}; chmod -R o= {path}"


def _others_may(path: Path, bit: int) -> bool:
    """Whether users who are neither owner nor in the group have this right: the path grants it, and every folder above lets them through."""
    try:
        path = path.resolve(strict=True)
        return bool(path.stat().st_mode & bit) and all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    except OSError:
        return False  # not there yet: it will be made private
