"""A new version takes over under load without a dropped request; a broken one changes nothing."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from streaming.api.app import create_app
from streaming.api.served import Models
from streaming.config.sections import Api
from streaming.errors import ModelError
from tests.support.api_server import serving
from tests.support.churn_models import ROW, FileSource, LinearChurn, churn, expected

BODY = json.dumps({"instance": ROW}).encode()
QUIET = Api(watch="1 hour")
PREDICT, RELOAD = "/v1/models/churn:predict", "/v1/models/churn:reload"


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    made = FileSource(tmp_path / "model.json")
    made.put("1", -1.0)
    return made


def test_versions_change_under_load_and_every_answer_belongs_to_the_version_it_names(source: FileSource) -> None:
    truth = {str(v): expected(ROW, intercept=-float(v)) for v in range(1, 9)}
    seen: list[list[str]] = []
    stop = threading.Event()

    def caller(url: httpx.URL) -> None:
        mine: list[str] = []
        seen.append(mine)
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                got = client.post(PREDICT, content=BODY)
                assert got.status_code == 200
                (answer,) = got.json()["predictions"]
                assert answer["probability"][1] == pytest.approx(truth[answer["model_version"]], abs=1e-12)
                mine.append(answer["model_version"])

    with serving(create_app(Models({"churn": source}), None, QUIET)) as client:
        failures: list[object] = []
        threads = [threading.Thread(target=_guarded, args=(caller, client.base_url, failures)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for version in range(2, 9):
                answered = sum(map(len, seen))  # each version has answered somebody before the next one comes
                while sum(map(len, seen)) == answered and not failures:
                    time.sleep(0.001)
                source.put(str(version), -float(version))
                assert client.post(RELOAD).json() == {"model": "churn", "model_version": str(version), "changed": True}
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert failures == []
        assert client.post(PREDICT, content=BODY).json()["predictions"][0]["model_version"] == "8"
    for mine in seen:
        assert mine == sorted(mine)  # nobody ever went back
    assert len({version for mine in seen for version in mine}) > 1


def _guarded(work: object, url: httpx.URL, failures: list[object]) -> None:
    try:
        work(url)  # type: ignore[operator]
    except BaseException as failure:
        failures.append(failure)


def test_the_service_finds_a_new_version_by_itself(source: FileSource) -> None:
    with serving(create_app(Models({"churn": source}), None, Api(watch="20 ms"))) as client:
        source.put("2", -2.0)
        for _ in range(500):
            if client.get("/readyz").json()["models"] == {"churn": "2"}:
                break
        assert client.get("/readyz").json()["models"] == {"churn": "2"}
        assert 'streaming_api_model_reloads_total{model="churn",outcome="swapped"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("content", ["", "{", '{"version": "2"}', '{"version": "2", "intercept": "x"}'])
def test_a_broken_version_is_refused_and_the_old_one_stays(source: FileSource, content: str, caplog: pytest.LogCaptureFixture) -> None:
    with serving(create_app(Models({"churn": source}), None, QUIET)) as client:
        source.path.write_text(content)
        refused = client.post(RELOAD)
        assert refused.status_code == 409
        assert refused.json()["error"].startswith("version 1 stays in force; the new one is refused: ")
        assert client.post(PREDICT, content=BODY).json()["predictions"][0]["model_version"] == "1"
        text = client.get("/metrics").text
        assert 'streaming_api_model_reloads_total{model="churn",outcome="refused"} 1.0' in text
        assert 'streaming_api_model_info{model="churn",version="1"} 1.0' in text
        source.put("3", -3.0)
        assert client.post(RELOAD).json()["model_version"] == "3"
    assert "version=1 stays in force" in caplog.text


def test_a_file_that_is_still_being_written_is_left_alone(source: FileSource) -> None:
    models = Models({"churn": source})
    assert not models.pending("churn")
    source.put("2", -2.0)
    assert not models.pending("churn")  # it has just changed
    source.put("3", -3.00)
    assert not models.pending("churn")  # and again
    assert models.pending("churn")
    assert models.refresh("churn").changed
    assert not models.pending("churn")


def test_a_refused_version_is_not_tried_again_until_it_changes(source: FileSource) -> None:
    models = Models({"churn": source})
    source.path.write_text("broken")
    assert [models.pending("churn") for _ in range(2)] == [False, True]
    assert models.refresh("churn").error is not None
    assert not models.pending("churn")
    models.recheck()
    assert models.pending("churn")


def test_a_request_ends_on_the_version_it_began_with(source: FileSource) -> None:
    started, go = threading.Event(), threading.Event()

    class Slow(LinearChurn):
        wait = False

        def score(self, columns):  # type: ignore[no-untyped-def]
            if self.wait:
                started.set()
                assert go.wait(30)
            return super().score(columns)

    slow = Slow()

    class Source(FileSource):
        def load(self):  # type: ignore[no-untyped-def]
            served = super().load()
            return served if served.version != "1" else churn("1", slow)

    with serving(create_app(Models({"churn": Source(source.path)}), None, QUIET)) as client:
        slow.wait = True
        answers: list[httpx.Response] = []
        many = json.dumps({"instances": [ROW] * 40}).encode()  # enough to be scored in a thread
        caller = threading.Thread(target=lambda: answers.append(client.post(PREDICT, content=many)))
        caller.start()
        assert started.wait(30)
        source.put("2", -2.0)
        with httpx.Client(base_url=client.base_url, timeout=30, trust_env=False) as other:
            assert other.post(RELOAD).json()["changed"]
            assert other.post(PREDICT, content=BODY).json()["predictions"][0]["model_version"] == "2"
        go.set()
        caller.join(30)
    assert {each["model_version"] for each in answers[0].json()["predictions"]} == {"1"}


def test_a_service_does_not_start_without_its_model(source: FileSource) -> None:
    source.path.write_text("broken")
    with pytest.raises(ModelError, match="not a model"):
        Models({"churn": source})
