"""Predictions and explanations over HTTP: every row gets its answer, and what is wrong is named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from streaming.api.app import create_app
from streaming.api.instances import problems
from streaming.api.served import Models, Served
from streaming.config.sections import Api
from streaming.errors import ModelError, StoreUnavailable
from tests.support.api_server import serving
from tests.support.churn_models import ROW, WEIGHTS, Churn, Length, LinearChurn, churn, expected


class Rows:
    """A store with one customer, and one whose server is down."""

    def get(self, key: str) -> list[dict[str, object]]:
        if key == "down":
            raise StoreUnavailable("postgresql://user:hunter2secret@db/x does not answer")
        at = datetime(2026, 11, 21, 8, tzinfo=UTC)
        row = {"key": key, "model": "churn", "event_time": at, "prediction": math.nan, "probability": [0.2, 0.8], "scored_at": at}
        return [row] if key == "C/10 42" else []


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    models = Models.fixed(churn(), Served.of(Length(), name="length", version="1"), Served.of(Churn(), name="opaque", version="2"))
    with serving(create_app(models, Rows(), Api(max_instances=60))) as started:
        yield started


def post(client: httpx.Client, path: str, body: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=content)


def test_a_batch_is_answered_row_by_row_in_order_by_the_formula(client: httpx.Client) -> None:
    rows = [{**ROW, "tenure": t, "contract": c} for t in (0, 3, 70) for c in ("Month-to-month", "Two year", "never seen", None)]
    got = post(client, "/v1/models/churn:predict", {"instances": rows}).json()["predictions"]
    assert [each["probability"][1] for each in got] == pytest.approx([expected(row) for row in rows], abs=1e-12)
    assert [each["prediction"] for each in got] == [float(expected(row) > 0.5) for row in rows]
    assert {(each["model"], each["model_version"]) for each in got} == {("churn", "7")}


def test_many_rows_are_scored_outside_the_event_loop_with_the_same_answers(client: httpx.Client) -> None:
    rows = [{**ROW, "tenure": t} for t in range(50)]
    many = post(client, "/v1/models/churn:predict", {"instances": rows}).json()["predictions"]
    single = [post(client, "/v1/models/churn:predict", {"instance": row}).json()["predictions"][0] for row in rows[::10]]
    assert many[::10] == single


def test_a_number_in_a_text_field_is_its_text() -> None:
    class Echo(LinearChurn):
        texts: list[object] = []

        def score(self, columns: Any) -> Any:
            self.texts.extend(columns["contract"])
            return super().score(columns)

    with serving(create_app(Models.fixed(churn("1", Echo())), None, Api())) as client:
        post(client, "/v1/models/churn:predict", {"instances": [{**ROW, "contract": value} for value in (1, 1.0, True, "x", None)]})
    assert Echo.texts[1:] == ["1", "1.0", "true", "x", None]


def test_no_rows_are_no_answers(client: httpx.Client) -> None:
    assert post(client, "/v1/models/churn:predict", {"instances": []}).json() == {"predictions": []}


def test_a_row_that_cannot_be_scored_says_why_and_the_others_are_answered(client: httpx.Client) -> None:
    bad = {name: value for name, value in ROW.items() if name != "tenure"}
    got = post(client, "/v1/models/churn:predict", {"instances": [ROW, bad, {**ROW, "monthly_charges": None}]}).json()["predictions"]
    assert [each.get("error") for each in got] == [None, "tenure is null", "monthly_charges is null"]
    assert "prediction" not in got[1]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"instances": [ROW, {**ROW, "tenure": "5"}]}, (1, "tenure", "expected a number, got text")),
        ({"instances": [{**ROW, "tenure": True}]}, (0, "tenure", "expected a number, got true or false")),
        ({"instances": [{**ROW, "contract": ["One year"]}]}, (0, "contract", "expected text, got an array")),
        ({"instances": [{**ROW, "tenure": 10**400}]}, (0, "tenure", "expected a number that a double can hold")),
        (b'{"instances": [{"tenure": 1e999}]}', (0, "tenure", "expected a number that a double can hold")),
        (b'{"instances": [{"contract": "\\ud800"}]}', (0, "contract", "half of a surrogate pair")),
        ({"instances": [{**ROW, "tenur": 5}]}, (0, "tenur", "unknown field; the model reads contract")),
        ({"instances": [ROW, 5]}, (1, None, "expected an object")),
        ({"instance": None}, (0, None, "expected an object")),
    ],
)
def test_a_wrong_field_is_named_with_its_instance(client: httpx.Client, body: Any, named: tuple[int, str | None, str]) -> None:
    got = post(client, "/v1/models/churn:predict", body)
    assert got.status_code == 422
    (error,) = got.json()["errors"]
    assert (error["instance"], error["field"]) == named[:2]
    assert named[2] in error["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"instance": {"tenure": NaN}}', "NaN is no JSON number"),
        (b'{"instance": {"tenure": -Infinity}}', "-Infinity is no JSON number"),
        (b"", "not valid JSON"),
        (b"\xff{}", "not UTF-8 at byte 0"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"instance": {"tenure": ' + b"9" * 5000 + b"}}", "thousands of digits"),
        ([ROW], "expected"),
        ({"instances": [ROW], "instance": ROW}, "nothing else beside it"),
        ({"instances": [ROW] * 61}, "61 instances, expected at most 60"),
    ],
)
def test_a_body_that_is_no_request_is_refused_with_words(client: httpx.Client, body: Any, words: str) -> None:
    got = post(client, "/v1/models/churn:predict", body)
    assert got.status_code == 422
    assert words in got.json()["error"]


def test_hundreds_of_problems_are_not_all_listed(client: httpx.Client) -> None:
    got = post(client, "/v1/models/churn:predict", {"instances": [{"a": 1, "b": 2} for _ in range(50)]}).json()
    assert len(got["errors"]) == 21
    assert got["errors"][-1] == {"instance": 10, "field": None, "error": "and more from this instance on; the rest was not looked at"}


def test_looking_for_problems_ends_with_the_last_one_that_is_listed() -> None:
    looked = 0

    class Row(dict[str, object]):
        def items(self) -> Any:
            nonlocal looked
            for item in super().items():
                looked += 1
                yield item

    listed = problems([Row(a=1, b=2) for _ in range(100_000)], {"tenure": "number"})
    assert (len(listed), looked) == (21, 21)


def test_a_name_that_the_caller_made_up_is_not_given_back_whole(client: httpx.Client) -> None:
    got = post(client, "/v1/models/churn:predict", {"instance": {"x" * 10_000: 1}})
    assert got.status_code == 422
    assert len(got.content) < 2_000


def test_a_vector_model_takes_arrays_of_one_length(client: httpx.Client) -> None:
    got = post(client, "/v1/models/length:predict", {"instances": [{"features": [1, 2.5]}, {"features": None}]}).json()["predictions"]
    assert got[0]["prediction"] == 3.5
    assert got[0]["probability"] is None
    assert got[1]["error"] == "features: null"
    ragged = post(client, "/v1/models/length:predict", {"instances": [{"features": [1]}, {"features": [1, 2]}]})
    assert ragged.json()["errors"] == [{"instance": 1, "field": "features", "error": "expected 1 numbers, as in instance 0, got 2"}]
    nested = post(client, "/v1/models/length:predict", {"instances": [{"features": [1, None]}]})
    assert nested.json()["errors"][0]["error"] == "element 1: expected a number, got null"


def test_unknown_models_routes_and_methods_are_answered_in_json(client: httpx.Client) -> None:
    got = post(client, "/v1/models/chrun:predict", {"instance": ROW})
    assert (got.status_code, got.json()["error"]) == (404, "no such model; served here: churn, length, opaque")
    assert client.get("/v1/nothing").json() == {"error": "not found"}
    assert client.get("/v1/models/churn:predict").status_code in {404, 405}


def test_linear_contributions_are_the_scorers_own_and_their_effects_are_in_probability(client: httpx.Client) -> None:
    (got,) = post(client, "/v1/models/churn:explain", {"instance": ROW}).json()["explanations"]
    assert (got["method"], got["unit"], got["class"]) == ("linear", "log-odds", 1)
    by_field = {each["field"]: each for each in got["contributions"]}
    assert {name: each["contribution"] for name, each in by_field.items()} == pytest.approx(
        {name: weight[ROW[name]] if isinstance(weight, dict) else weight * ROW[name] for name, weight in WEIGHTS.items()}
    )
    without = expected({**ROW, "contract": "One year"})  # the category whose weight is 0
    assert by_field["contract"]["effect"] == pytest.approx(expected(ROW) - without, abs=1e-12)
    effects = [abs(each["effect"]) for each in got["contributions"]]
    assert effects == sorted(effects, reverse=True)


def test_other_models_are_explained_by_leaving_each_field_out(client: httpx.Client) -> None:
    (got,) = post(client, "/v1/models/opaque:explain", {"instance": ROW}).json()["explanations"]
    assert (got["method"], got["unit"]) == ("occlusion", "probability")
    effects = {each["field"]: each["effect"] for each in got["contributions"]}
    for name in ("contract", "tech_support"):
        assert effects[name] == pytest.approx(expected(ROW) - expected({**ROW, name: None}), abs=1e-12)
    # A null number is an error to this model, so the number is left out by making it 0.
    assert effects["tenure"] == pytest.approx(expected(ROW) - expected({**ROW, "tenure": 0}), abs=1e-12)


def test_a_regression_is_explained_in_its_own_unit_and_a_field_nobody_can_do_without_has_no_effect(client: httpx.Client) -> None:
    (got,) = post(client, "/v1/models/length:explain", {"instance": {"features": [2, 3]}}).json()["explanations"]
    assert (got["unit"], got["output"], got["class"]) == ("prediction", 5.0, None)
    assert got["contributions"] == [{"field": "features", "contribution": None, "effect": None}]


def test_a_row_that_cannot_be_scored_is_not_explained(client: httpx.Client) -> None:
    got = post(client, "/v1/models/churn:explain", {"instances": [{**ROW, "tenure": None}, ROW]}).json()["explanations"]
    assert got[0] == {"error": "tenure is null", "model": "churn", "model_version": "7"}
    assert got[1]["method"] == "linear"
    assert post(client, "/v1/models/churn:explain", {"instances": [ROW] * 51}).status_code == 422


def test_what_is_served_can_be_listed(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()["models"]
    assert [each["name"] for each in listed] == ["churn", "length", "opaque"]
    card = client.get("/v1/models/churn").json()
    assert card == listed[0]
    assert card["inputs"][0] == {"name": "contract", "kind": "text", "categories": list(WEIGHTS["contract"])}
    assert card["example"] == ROW


def test_stored_predictions_are_looked_up(client: httpx.Client) -> None:
    got = client.get("/v1/predictions/C%2F10%2042").json()
    assert got["key"] == "C/10 42"
    assert got["predictions"][0]["event_time"] == "2026-11-21T08:00:00+00:00"
    assert got["predictions"][0]["prediction"] is None
    assert client.get("/v1/predictions/nobody").status_code == 404
    assert client.get("/v1/predictions/a%00b").status_code == 404


def test_a_store_that_is_down_is_said_without_its_password(client: httpx.Client) -> None:
    got = client.get("/v1/predictions/down")
    assert got.status_code == 503
    assert "does not answer" in got.json()["error"]
    assert "hunter2secret" not in got.text


def test_ready_means_the_models_are_there_and_the_store_answers() -> None:
    class Down:
        def get(self, key: str) -> list[dict[str, object]]:
            raise StoreUnavailable("down")

    for store, status, words in ((Rows(), 200, "ok"), (None, 200, "none"), (Down(), 503, "does not answer")):
        with serving(create_app(Models.fixed(churn()), store, Api())) as client:
            got = client.get("/readyz")
            assert (got.status_code, got.json()["store"], got.json()["models"]) == (status, words, {"churn": "7"})
            assert client.get("/healthz").status_code == 200
    with serving(create_app(Models.fixed(churn()), None, Api(), no_store="ask elsewhere")) as client:
        got = client.get("/v1/predictions/x")
        assert (got.status_code, got.json()) == (501, {"error": "ask elsewhere"})


def test_metrics_count_requests_rows_and_name_the_version() -> None:
    with serving(create_app(Models.fixed(churn()), None, Api())) as client:
        post(client, "/v1/models/churn:predict", {"instances": [ROW, ROW, {**ROW, "tenure": None}]})
        post(client, "/v1/models/churn:predict", b"no")
        text = client.get("/metrics").text
    assert 'streaming_api_requests_total{route="predict",status="200"} 1.0' in text
    assert 'streaming_api_requests_total{route="predict",status="422"} 1.0' in text
    assert 'streaming_api_rows_total{model="churn",outcome="scored"} 2.0' in text
    assert 'streaming_api_rows_total{model="churn",outcome="error"} 1.0' in text
    assert 'streaming_api_model_info{model="churn",version="7"} 1.0' in text
    assert 'streaming_api_request_seconds_count{route="predict"} 2.0' in text


def test_a_scorer_that_refuses_or_breaks_is_an_answer_and_no_secret_gets_out() -> None:
    class Refuses(LinearChurn):
        ready = False

        def score(self, columns: Any) -> Any:
            if self.ready:
                raise ModelError("column tenure: password=hunter2secret")
            return super().score(columns)

    class Breaks(Refuses):
        def score(self, columns: Any) -> Any:
            return super().score(columns) if not self.ready else 1 / 0

    refuses, breaks = Refuses(), Breaks()
    served = [Served.of(refuses, name="refuses", version="1"), Served.of(breaks, name="breaks", version="1")]
    refuses.ready = breaks.ready = True
    with serving(create_app(Models.fixed(*served), None, Api())) as client:
        got = post(client, "/v1/models/refuses:predict", {"instance": ROW})
        assert got.status_code == 422
        assert "hunter2secret" not in got.text
        got = post(client, "/v1/models/breaks:predict", {"instance": ROW})
        assert (got.status_code, got.json()) == (500, {"error": "something went wrong here; the service's log says what"})


def test_predictions_that_json_cannot_say_are_errors_of_their_row() -> None:
    class Overflows(Length):
        def score(self, columns: Any) -> Any:
            scores = super().score(columns)
            return type(scores)(np.full(len(scores.error), np.inf), None, [None] * len(scores.error))

    with serving(create_app(Models.fixed(Served.of(Overflows(), name="m", version="1")), None, Api())) as client:
        (got,) = post(client, "/v1/models/m:predict", {"instance": {"features": [1]}}).json()["predictions"]
        assert got["error"] == "the prediction is not a finite number"
