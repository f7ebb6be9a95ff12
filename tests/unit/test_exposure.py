"""What lies open is said: on the wire, and on the disk; what is made is for its own user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streaming import config
from streaming.checks import exposure
from streaming.runtime.files import LocalFolder
from tests.support.smallest import smallest

POSTGRES = "postgresql://u:p@db.example/d"


def words(tmp_path: Path, **changes: Any) -> str:
    return "\n".join(exposure.warnings(config.parse(smallest(tmp_path, **changes))))


def kafka(servers: str, **options: str) -> dict[str, Any]:
    return {"bootstrap_servers": servers, "options": {key.replace("__", "."): value for key, value in options.items()}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kafka": kafka("broker.example:9092")}, "kafka: PLAINTEXT: events and predictions cross"),
        ({"kafka": kafka("localhost:9092,broker.example:9092")}, "kafka: PLAINTEXT"),
        ({"kafka": kafka("b:9092", security__protocol="SASL_PLAINTEXT")}, "and the password cross"),
        ({"kafka": kafka("b:9092", security__protocol="SSL", ssl__endpoint__identification__algorithm="")}, "any server with a certificate"),
        ({"store": {"kind": "postgres", "dsn": POSTGRES}}, "sslmode=prefer is not encryption"),
        ({"store": {"kind": "postgres", "dsn": f"{POSTGRES}?sslmode=disable"}}, "sslmode=disable is not encryption"),
        ({"store": {"kind": "postgres", "dsn": f"{POSTGRES}?sslmode=require"}}, "takes any server for the right one"),
        ({"store": {"kind": "redis", "url": "redis://:p@cache.example:6379/0"}}, "redis:// is not encrypted"),
        ({"api": {"host": "0.0.0.0", "token": "a-token-of-some-length"}}, "without api.tls"),
    ],
)  # fmt: skip
def test_what_others_on_the_way_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    told = words(tmp_path, **changes)
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kafka": kafka("[::1]:9092,127.0.0.1:9093")},
        {"kafka": kafka("b:9092", security__protocol="SASL_SSL")},
        {"store": {"kind": "postgres", "dsn": "postgresql://u:p@localhost/d"}},
        {"store": {"kind": "postgres", "dsn": "dbname=d"}},
        {"store": {"kind": "postgres", "dsn": f"{POSTGRES}?sslmode=verify-full"}},
        {"store": {"kind": "postgres", "dsn": "no=dsn at all"}},
        {"store": {"kind": "redis", "url": "rediss://:p@cache.example:6379/0"}},
        {"store": {"kind": "redis", "url": "unix:///run/redis.sock"}},
        {"api": {"host": "0.0.0.0", "token": "a-token-of-some-length", "tls": {"cert": "c", "key": "k"}}},
    ],
)
def test_what_is_closed_is_not_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert words(tmp_path, **changes) == ""


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that others may pass through. Not one of pytest's: each run that starts closes those to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_what_every_user_of_the_machine_may_read_or_change(passable: Path) -> None:
    paths = {
        "state": "state",
        "model.uri": "model",
        "store.path": "predictions.db",
        "api.tokens": "tokens.yaml",
        "api.tls.key": "key.pem",
        "audit": "a",
    }
    for name in paths.values():
        (passable / name).write_text("")
        (passable / name).chmod(0o644)
    (passable / "model").chmod(0o666)
    changes = {
        "api": {"tokens": str(passable / "tokens.yaml"), "tls": {"cert": "c", "key": str(passable / "key.pem")}},
        "audit": str(passable / "a"),
    }
    told = words(passable, **changes)
    for key, name in paths.items():
        assert f"{key}: every user of this machine may read {'and change ' if name == 'model' else ''}{passable / name}; chmod" in told
    for name in paths.values():
        (passable / name).chmod(0o640)
    assert words(passable, **changes) == ""
    (passable / "model").chmod(0o666)
    passable.chmod(0o700)  # nobody gets as far as that
    assert words(passable, **changes) == ""


_MAKES = """
import os
from pathlib import Path
from streaming.cli import main
from streaming.cli.main import cli
from streaming.runtime.files import LocalFolder, write_whole
from streaming.stores.sqlite import SqliteStore

@cli.command()
def makes():
    folder = Path(os.environ["WHERE"])
    LocalFolder(folder / "state").create("a", b"")
    LocalFolder(folder / "state").replace("b", b"")
    with write_whole(folder / "whole" / "c") as partial:
        partial.write_text("")
    SqliteStore(str(folder / "db" / "d.db")).prepare()
    (folder / "plain").mkdir()

main(["makes"])
"""


@pytest.mark.parametrize(("mask", "forbidden"), [(None, 0o077), ("027", 0o027), ("nonsense", 0o077)])
def test_what_is_made_is_for_its_own_user(tmp_path: Path, mask: str | None, forbidden: int) -> None:
    environment = {**os.environ, "WHERE": str(tmp_path)} | ({} if mask is None else {"STREAMING_UMASK": mask})
    subprocess.run([sys.executable, "-c", _MAKES], env=environment, check=True, timeout=120)
    made = list(tmp_path.rglob("*"))
    assert {"a", "b", "c", "d.db", "plain"} <= {path.name for path in made}
    assert [str(path) for path in made if path.stat().st_mode & forbidden] == []


def test_state_and_store_are_private_whoever_makes_them(tmp_path: Path) -> None:
    from streaming.stores.sqlite import SqliteStore

    LocalFolder(tmp_path / "state").create("a", b"")
    LocalFolder(tmp_path / "state").replace("b", b"")
    SqliteStore(str(tmp_path / "d.db")).prepare()
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("state", "state/a", "state/b", "d.db")}
    assert modes == {"state": 0o700, "state/a": 0o600, "state/b": 0o600, "d.db": 0o600}


def test_check_prints_warnings_before_anything_is_started(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(smallest(tmp_path, kafka=kafka("broker.example:9092"))))
    script = "from streaming.runtime import session\ndef no(*_, **__): raise SystemExit(7)\nsession.running = no\nfrom streaming.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", script, "check", str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 7
    assert "! kafka: PLAINTEXT: events and predictions cross the network unencrypted" in done.stdout
