"""The whole job with a secret in every option that may hold one: none of them reaches anything that somebody else may read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import psutil
import pyarrow as pa
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from streaming.monitor.baseline import AnsweredRows, of_table
from streaming.runtime.files import LocalFolder
from tests.support import events
from tests.support.job import Job, outcome, read_all, running, send, wait_until, write_config
from tests.support.planted import Planted
from tests.support.receivers import Received, receiving

pytestmark = pytest.mark.timeout(900)

N = 300


@contextmanager
def role_of_the_job(dsn: str, password: str) -> Iterator[str]:
    """A role of PostgreSQL with this password; gives its name."""
    psycopg = pytest.importorskip("psycopg")
    from psycopg import sql

    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE planted LOGIN PASSWORD {}").format(sql.Literal(password)))
        admin.execute("CREATE SCHEMA planted AUTHORIZATION planted")
    try:
        yield "planted"
    finally:
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute("DROP SCHEMA planted CASCADE")
            admin.execute("DROP ROLE planted")


def write_baseline(state: Path) -> None:
    made = [json.loads(events.good(i)[1]) for i in range(2000)]
    table = pa.table({name: [event[name] for event in made] for name in ("plan", "minutes", "calls")})
    score = np.full(len(made), 0.3)
    answered = AnsweredRows("churn", "probability", score * 0, score, score * np.nan)
    known = of_table(table, columns=["plan", "minutes", "calls"], source="test", answers=answered)
    LocalFolder(state / "monitor").replace("baseline.json", known.to_bytes())


def plant(tree: dict[str, Any], planted: Planted, patch: pytest.MonkeyPatch, *, model: Path, dsn: str, hook: int, folder: Path) -> str:
    """Secrets in every option of the job that may hold one. Returns the database's password."""

    def env(name: str, value: str) -> str:
        patch.setenv(name, value)
        return f"${{env:{name}}}"

    database = planted.secret("store.dsn")
    where = urlsplit(dsn)
    address = f"{where.hostname}:{where.port}{where.path}"
    tree["store"] = {
        "kind": "postgres",
        "dsn": f"postgresql://planted:{env('DATABASE', quote(database, safe=''))}@{address}",
        "table": "planted.kept",
    }
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="{}";'
    tree["kafka"]["options"] = {
        "sasl.jaas.config": jaas.format(env("KAFKA_PASSWORD", planted.secret("sasl.jaas.config", marks="/&"))),
        "ssl.truststore.password": env("TRUSTSTORE", planted.secret("ssl.truststore.password")),
        "ssl.key.password": planted.secret("ssl.key.password, written down"),
        "client.rack": env("RACK", planted.secret("client.rack, which is named like no secret")),
    }
    tree["spark"] = {
        "options": {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"file:{folder}/events",
            "spark.eventLog.compress": "false",
            "spark.hadoop.fs.s3a.secret.key": env("S3A", planted.secret("fs.s3a.secret.key")),
            "spark.hadoop.fs.s3a.access.key": planted.secret("fs.s3a.access.key, written down"),
            "spark.hadoop.fs.azure.account.key.x.dfs.core.windows.net": env("AZURE", planted.secret("fs.azure.account.key")),
            "spark.hadoop.vendor.setting": env("VENDOR", planted.secret("vendor.setting, which is named like no secret")),
            "spark.ssl.keyPassword": env("SPARK_SSL", planted.secret("spark.ssl.keyPassword")),
        }
    }
    named = folder / planted.secret("model.uri", marks="-")
    model.rename(named)
    tree["model"]["uri"] = env("MODEL", str(named))
    tree["train"] = {"data": env("TRAIN", f"s3a://key:{planted.secret('train.data', marks='')}@bucket/t.parquet"), "label": "label"}
    path = planted.secret("webhook.url", marks="")
    tree["monitor"]["alerts"]["webhook"] = {
        "url": env("HOOK", f"http://127.0.0.1:{hook}/services/{path}?token={path}"),
        "secret": env("HOOK_SECRET", planted.secret("webhook.secret")),
        "tries": 1,
    }
    tree["api"] = {"port": 0, "token": env("API_TOKEN", planted.secret("api.token"))}
    patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9/")
    patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer {planted.secret('the header of the collector', marks='')}")
    return database


def ask(address: str, path: str, *, token: str | None = None, body: bytes | None = None) -> bytes:
    """Everything that an answer says: its status, its headers and its body."""
    request = urllib.request.Request(f"{address}{path}", data=body, headers={} if token is None else {"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return f"{answer.status} {answer.headers}".encode() + answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return f"{refused.code} {refused.headers}".encode() + refused.read()


def command_lines() -> str:
    """What `ps` shows of every process of this machine."""
    lines = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return "\n".join(lines)


def run(*words: str) -> str:
    """Everything that a command says."""
    done = subprocess.run([sys.executable, "-m", "streaming", *words], capture_output=True, text=True, timeout=240, check=False)
    return done.stdout + done.stderr


def of_the_api(tree: dict[str, Any], planted: Planted, patch: pytest.MonkeyPatch, folder: Path) -> str:
    """What an API over the same configuration answers and logs, with a model of scikit-learn and a Redis that is away."""
    skops.io.dump(LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]), folder / "model.skops")
    patch.setenv("REDIS", quote(planted.secret("store.url"), safe=""))
    token, in_file = planted.secret("api.token"), planted.secret("api.tokens", marks="-_")
    patch.setenv("API_TOKEN", token)
    (folder / "tokens.yaml").write_text(yaml.safe_dump([{"name": "reader", "token": in_file, "roles": ["read"]}]))
    (folder / "tokens.yaml").chmod(0o600)
    own = tree | {
        "model": {"name": "line", "version": "1", "format": "sklearn", "uri": str(folder / "model.skops")},
        "store": {"kind": "redis", "url": "redis://:${env:REDIS}@127.0.0.1:9/0"},
        "events": tree["events"] | {"schema": "id STRING, at STRING, features ARRAY<DOUBLE>"},
        "api": tree["api"] | {"tokens": str(folder / "tokens.yaml"), "job": "http://127.0.0.1:9"},
    }
    config = write_config(folder / "api.yaml", own)
    command = [sys.executable, "-m", "streaming", "-v", "api", str(config)]
    heard: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            for line in started.stderr:
                heard.append(line)
                if "listens=" in line:
                    break
            assert "listens=" in heard[-1], "".join(heard)
            address = heard[-1].split("listens=")[1].strip()
            row = json.dumps({"instance": {"features": [3.0]}}).encode()
            paths = (
                "/",
                "/docs",
                "/openapi.json",
                "/healthz",
                "/readyz",
                "/metrics",
                "/v1/models",
                "/v1/health",
                "/v1/predictions/c1",
                "/v2",
                "/no",
            )
            replies = [ask(address, path, token=shown) for path in paths for shown in (None, token, in_file)]
            replies += [
                ask(address, "/v1/models/line:predict", token=token, body=body) for body in (row, b"{", b'{"instance": {"features": 1}}')
            ]
            replies.append(ask(address, "/v1/models/line:reload", token=token, body=b"{}"))
            assert any(b'"prediction"' in reply for reply in replies)
            assert any(reply.startswith(b"503") for reply in replies)
            heard.append(command_lines())
        finally:
            started.terminate()
            heard.append(started.communicate(timeout=60)[1])
    return "".join(heard) + b"\n".join(replies).decode()


def watched(tree: dict[str, Any], topics: Callable[..., str], patch: pytest.MonkeyPatch, folder: Path) -> None:
    """The job watches itself, logs Spark's events, and leaves nothing outside `folder`."""
    tree["monitor"] = {
        "window": "3 seconds", "least_rows": 50, "trigger": "500 ms", "starting": "earliest", "topic": topics(1),
        "thresholds": {"rejected": 0.01}, "alerts": {"topic": topics(1), "rules": [{"on": "rejected"}]},
    }  # fmt: skip
    tree["learners"][0]["warm_start"] = "model"
    (folder / "events").mkdir()
    write_baseline(Path(tree["state"]))
    for name in ("TMPDIR", "SPARK_LOCAL_DIRS"):
        patch.setenv(name, str(folder / "scratch"))
    (folder / "scratch").mkdir()


def through(job: Job, tree: dict[str, Any], hook: Received, postgres: Any) -> dict[str, str | bytes]:
    """Good and bad events, labels, an alert that nobody takes, commands, a database that is away; gives all that was shown meanwhile."""
    servers, config, seen = tree["kafka"]["bootstrap_servers"], str(job.config), dict[str, str | bytes]()
    job.wait_started()
    seen["ps, early"] = command_lines()
    port = re.findall(r"health=(http://\S+)/readyz", job.text())[-1]
    broken = [(b"broken", value) for value, _ in events.BROKEN] * 3
    send(servers, tree["events"]["topic"], [events.good(i) for i in range(N)] + broken)
    send(servers, tree["labels"]["topic"], [*(events.label(i) for i in range(N)), events.label(7, "no label")])
    job.until(lambda: len(outcome(servers, tree).predictions) >= N, "all is scored")
    job.until(lambda: "lane=store" in job.text(), "the store has a batch")
    job.until(lambda: "learner=online" in job.text(), "labels are learned")
    more = iter(range(N, 10 * N))

    def alerted() -> bool:
        """A window is over when something comes after its end."""
        send(servers, tree["events"]["topic"], [events.good(next(more))])
        return bool(hook.got)

    job.until(alerted, "an alert is told")
    job.until(lambda: "webhook does not take it" in job.text(), "the alert is not taken")
    seen["rollback"] = run("rollback", config, "online", "--to", "warm", "--actor", "somebody")
    seen["versions, drift, audit"] = run("versions", config, "online") + run("drift", config) + run("audit", "show", config)
    assert "in force" in str(seen["rollback"])
    postgres.stop()
    try:
        send(servers, tree["events"]["topic"], [events.good(next(more)) for _ in range(20)])
        job.until(lambda: b"StoreUnavailable" in ask(port, "/readyz"), "the database is away")
        seen |= {f"the job's {path}": ask(port, path) for path in ("/metrics", "/readyz", "/healthz", "/no")}
    finally:
        postgres.start()
    seen["ps, late"] = command_lines()
    assert job.stop() == 0
    return seen | {"the job's output": job.text()}


def on_topics(tree: dict[str, Any]) -> dict[str, str | bytes]:
    """Every record of every topic that the job writes; there are some on each."""
    seen: dict[str, str | bytes] = {}
    names = [tree["predictions"][key] for key in ("topic", "rejected_topic", "shadow_topic")]
    for topic in (*names, tree["monitor"]["topic"], tree["monitor"]["alerts"]["topic"]):
        records = read_all(tree["kafka"]["bootstrap_servers"], topic)
        assert records, topic
        seen[f"topic {topic}"] = b"\n".join(
            (record.key or b"") + (record.value or b"") + repr(record.headers).encode() for record in records
        )
    return seen


def test_no_secret_of_any_option_is_in_anything_that_others_read(
    learning: dict[str, Any],
    topics: Callable[..., str],
    postgres: Any,
    saved_pipeline: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted = Planted()
    watched(learning, topics, monkeypatch, tmp_path)
    shutil.copytree(saved_pipeline, tmp_path / "copy")
    with receiving(otherwise=503) as hook:
        database = plant(learning, planted, monkeypatch, model=tmp_path / "copy", dsn=postgres.dsn, hook=hook.port, folder=tmp_path)
        config = write_config(tmp_path / "job.yaml", learning)
        written_down = planted.in_text(config.read_bytes())
        assert written_down == {"ssl.key.password, written down", "fs.s3a.access.key, written down"}
        with role_of_the_job(postgres.dsn, database), running(config) as job:
            seen = through(job, learning, hook, postgres)
    assert all(planted.in_text(path) == {"webhook.url"} for path, _, _ in hook.got)  # the only one who may know it
    seen["alerts"] = b"".join(body for _, _, body in hook.got)
    seen |= on_topics(learning)
    seen["the API"] = of_the_api(learning, planted, monkeypatch, tmp_path)
    lost = {place: options for place, text in seen.items() if (options := planted.in_text(text))}
    assert lost == {}
    assert (Path(learning["state"]) / "logs" / "spark.log").stat().st_size > 0
    assert list((tmp_path / "events").rglob("events_*"))
    own = (str(config), str(tmp_path / "api.yaml"), str(tmp_path / "tokens.yaml"))
    kept = [each for each in planted.in_folder(tmp_path) if not each.startswith(own)]
    assert [each for each in kept if not re.search(r"/[a-z0-9]{12}-[a-z0-9]{12}(/|:)", each)] == []  # the model itself, as it was brought
    wait_until(lambda: not planted.in_text(command_lines()), "no process is left that shows one")
