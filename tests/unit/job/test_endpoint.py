"""The port of the job: what it answers, to whom, and what callers cannot do to it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streaming.config.sections import JobSection
from streaming.errors import EnvironmentFailure
from streaming.job import endpoint
from streaming.monitor.health import Health
from streaming.monitor.status import Status

NOW = time.time()
RUNS = Status("score", "running", NOW - 5)
WAITS = Status("store", "waiting", NOW - 5, "StoreUnavailable", "lane store: PostgreSQL db.internal:5432/x: no connection", 3, NOW + 4)
DOWN = Status("score", "down", NOW, "StateError", "offsets are gone")


def health(*statuses: Status) -> Health:
    told = Health([each.lane for each in statuses], purpose="score")
    told.update(statuses)
    return told


@contextmanager
def served(told: Health, *, host: str = "127.0.0.1") -> Iterator[int]:
    with endpoint.listening(JobSection(host=host, port=0), told, lambda: b"metric 1\n") as port:
        assert port is not None
        yield port


def get(port: int, path: str, *, host: str | None = None, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_ready_while_scoring_runs_and_says_what_does_not() -> None:
    with served(health(RUNS, WAITS)) as port:
        status, body = get(port, "/readyz")
        assert status == 200
        told = json.loads(body)
        assert told["status"] == "degraded"
        score = told["lanes"]["score"]
        assert (score["state"], score["restarts"], "error" in score) == ("running", 0, False)
        assert score["for_s"] >= 5
        store = told["lanes"]["store"]
        assert (store["state"], store["error"], store["restarts"]) == ("waiting", "StoreUnavailable", 3)
        assert "no connection" in store["why"]
        assert 0 <= store["retry_in_s"] <= 4
        assert get(port, "/healthz") == (200, b"ok\n")
        assert get(port, "/metrics") == (200, b"metric 1\n")
        assert get(port, "/metrics", method="HEAD") == (200, b"")
        assert get(port, "/")[0] == 404
        assert get(port, "/readyz", method="POST")[0] == 501


@pytest.mark.parametrize("statuses", [(DOWN, WAITS), (Status("score", "starting", NOW),), (Status("store", "waiting", NOW),)])
def test_not_ready_while_it_does_not_do_what_it_is_for(statuses: tuple[Status, ...]) -> None:
    code, _, body = endpoint.answer("/readyz?verbose", health(*statuses), bytes, words=True)
    assert code == 503
    assert json.loads(body)["status"] == "not ready"


def test_a_job_that_has_stopped_looking_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    told = health(RUNS)
    assert told.alive
    monkeypatch.setattr("streaming.monitor.health.time.monotonic", lambda: time.perf_counter() + 1e9)
    assert endpoint.answer("/healthz", told, bytes, words=True)[0] == 503


def test_others_than_this_machine_are_told_no_words() -> None:
    with served(health(RUNS, WAITS), host="0.0.0.0") as port:
        body = get(port, "/readyz", host="jobs.example")[1]
    assert b"db.internal" not in body
    assert json.loads(body)["lanes"]["store"]["error"] == "StoreUnavailable"


@pytest.mark.parametrize(("host", "status"), [("localhost:9464", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example:9464", 403)])
def test_a_web_page_cannot_read_it_through_a_name_of_its_own(host: str, status: int) -> None:
    with served(health(RUNS)) as port:
        assert get(port, "/readyz", host=host)[0] == status


def test_no_secret_is_told() -> None:
    told = Status("store", "waiting", NOW, "StoreUnavailable", "postgresql://scorer:topsecret@db/x: no connection")
    assert b"topsecret" not in endpoint.answer("/readyz", health(RUNS, told), bytes, words=True)[2]


def test_many_slow_callers_are_turned_away_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LONGEST_CALL_S", 2.0)
    with served(health(RUNS)) as port:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(endpoint.MOST_CALLERS)]
        for caller in slow:
            caller.sendall(b"GET /healthz HT")
        turned_away = socket.create_connection(("127.0.0.1", port))
        turned_away.settimeout(10)
        turned_away.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert _ended(turned_away)
        for caller in slow:
            caller.settimeout(10)
            for _ in range(5):  # a byte now and then keeps nobody's connection open
                try:
                    caller.sendall(b"x")
                except OSError:
                    break
            assert _ended(caller)
        assert get(port, "/healthz")[0] == 200
        for caller in [*slow, turned_away]:
            caller.close()


def _ended(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) == b""
    except ConnectionError:
        return True


def test_a_port_that_is_taken_is_waited_for_and_keeps_nobody_from_scoring(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Whoever has it may be the job before this one, which is about to end."""
    monkeypatch.setattr(endpoint, "_AGAIN_S", 0.05)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with endpoint.listening(JobSection(port=port), health(RUNS), lambda: b"mine\n") as given:
            assert given == port
            assert "no health and no metrics until the port is free" in caplog.text
            holder.close()
            deadline = time.monotonic() + 30
            while not answers(port):
                assert time.monotonic() < deadline
            assert get(port, "/metrics") == (200, b"mine\n")
        with endpoint.listening(JobSection(port=port), health(RUNS), bytes) as again:  # it was given back
            assert again == port


def answers(port: int) -> bool:
    try:
        return get(port, "/healthz")[0] == 200
    except OSError:
        return False


def test_a_port_that_can_never_be_had_is_an_error() -> None:
    elsewhere = JobSection(host="192.0.2.1", port=0)  # an address of no machine
    with pytest.raises(EnvironmentFailure, match=r"job\.port: .*; choose another job.host or job.port"):
        endpoint.listening(elsewhere, health(RUNS), bytes).__enter__()


def test_two_jobs_of_one_machine_answer_beside_each_other(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody chose a port: the second job takes the next and says where, and scoring has nothing to do with it."""
    with (
        endpoint.listening(JobSection(), health(RUNS), lambda: b"first\n") as first,
        endpoint.listening(JobSection(), health(RUNS), lambda: b"second\n") as second,
    ):
        assert first is not None
        assert second is not None
        assert first < second
        assert get(first, "/metrics") == (200, b"first\n")
        assert get(second, "/metrics") == (200, b"second\n")
    words = f"this job answers on port {second} instead: give each job a job.port (or --port) of its own"
    assert words in caplog.text


def test_a_port_that_nobody_asked_for_is_gone_without(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(endpoint, "_Server", _taken)
    with endpoint.listening(JobSection(), health(RUNS), bytes) as port:
        assert port is None
    assert "port 9464" in caplog.text
    assert "nor on the 15 ports behind it; set job.port" in caplog.text


def _taken(*_: object) -> None:
    raise OSError(98, "Address already in use")


def test_no_port_when_none_is_wanted() -> None:
    with endpoint.listening(JobSection(port=None), health(RUNS), bytes) as port:
        assert port is None
