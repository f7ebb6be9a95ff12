"""The Open Inference Protocol: tensors in, tensors out, and everything that does not fit is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from streaming.api.app import create_app
from streaming.api.served import Models, Served
from streaming.config.sections import Api
from tests.support.api_server import serving
from tests.support.churn_models import ROW, WEIGHTS, Length, churn, expected

INFER = "/v2/models/churn/infer"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    models = Models.fixed(churn(), Served.of(Length(), name="length", version="1"))
    with serving(create_app(models, None, Api(max_instances=100))) as started:
        yield started


def tensors(rows: list[dict[str, Any]], *, column: bool = False, **changes: Any) -> dict[str, Any]:
    made = []
    for name, weight in WEIGHTS.items():
        data = [row[name] for row in rows]
        kind = "BYTES" if isinstance(weight, dict) else "FP64"
        tensor = {"name": name, "shape": [len(rows), 1] if column else [len(rows)], "datatype": kind, "data": data}
        made.append({**tensor, **changes.get(name, {})})
    return {"inputs": made}


def test_metadata_says_what_the_model_reads_and_gives(client: httpx.Client) -> None:
    assert client.get("/v2").json()["name"] == "streaming"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/models/churn/ready").json() == {"name": "churn", "ready": True}
    metadata = client.get("/v2/models/churn").json()
    assert metadata == client.get("/v2/models/churn/versions/7").json()
    assert metadata["versions"] == ["7"]
    assert {each["name"]: each["datatype"] for each in metadata["inputs"]} == {
        name: "BYTES" if isinstance(weight, dict) else "FP64" for name, weight in WEIGHTS.items()
    }
    assert client.get("/v2/models/churn/versions/8").json() == {"error": "this version is not served; in force: 7"}
    assert client.get("/v2/models/nothing").status_code == 404


@pytest.mark.parametrize("column", [False, True])
def test_tensors_are_scored_like_rows(client: httpx.Client, column: bool) -> None:
    rows = [{**ROW, "tenure": t} for t in range(5)]
    got = client.post(INFER, json={"id": "a", **tensors(rows, column=column)}).json()
    assert (got["model_name"], got["model_version"], got["id"]) == ("churn", "7", "a")
    outputs = {each["name"]: each for each in got["outputs"]}
    assert set(outputs) == {"prediction", "probability"}
    assert outputs["probability"]["shape"] == [5, 2]
    assert outputs["probability"]["data"][1::2] == pytest.approx([expected(row) for row in rows], abs=1e-12)
    assert outputs["prediction"] == {
        "name": "prediction", "datatype": "FP64", "shape": [5], "data": [float(expected(row) > 0.5) for row in rows]
    }  # fmt: skip
    only = client.post("/v2/models/churn/versions/7/infer", json={**tensors(rows), "outputs": [{"name": "prediction"}]}).json()
    assert [each["name"] for each in only["outputs"]] == ["prediction"]


@pytest.mark.parametrize(("datatype", "value"), [("INT32", 5), ("INT64", 5), ("FP32", 5.0), ("BOOL", True)])
def test_every_datatype_of_numbers_is_taken(client: httpx.Client, datatype: str, value: Any) -> None:
    got = client.post(INFER, json=tensors([ROW], tenure={"datatype": datatype, "data": [value]})).json()
    assert got["outputs"][1]["data"][1] == pytest.approx(expected({**ROW, "tenure": float(value)}), abs=1e-12)


def test_a_32_bit_float_is_the_nearest_float(client: httpx.Client) -> None:
    got = client.post(INFER, json=tensors([ROW], tenure={"datatype": "FP32", "data": [0.1]})).json()
    assert got["outputs"][1]["data"][1] == pytest.approx(expected({**ROW, "tenure": 0.10000000149011612}), abs=1e-15)


def test_rows_without_an_answer_are_null_and_say_why(client: httpx.Client) -> None:
    got = client.post(INFER, json=tensors([{**ROW, "tenure": None}, ROW])).json()
    outputs = {each["name"]: each["data"] for each in got["outputs"]}
    assert outputs["error"] == ["tenure is null", None]
    assert (outputs["prediction"][0], outputs["probability"][:2]) == (None, [None, None])
    assert outputs["prediction"][1] is not None


def test_vectors_are_matrices_flat_or_nested(client: httpx.Client) -> None:
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
        tensor = {"name": "features", "shape": [2, 3], "datatype": "FP64", "data": data}
        assert client.post("/v2/models/length/infer", json={"inputs": [tensor]}).json()["outputs"][0]["data"] == [6.0, 15.0]


def test_no_rows_are_an_empty_answer(client: httpx.Client) -> None:
    got = client.post(INFER, json=tensors([])).json()
    assert got["outputs"][0]["shape"] == [0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tenure": {"shape": [2]}}, "tenure: the shape asks for 2 values, data has 1"),
        ({"tenure": {"shape": [1, 2], "data": [1, 2]}}, "tenure: shape: expected [rows] or [rows, 1]"),
        ({"tenure": {"shape": [-1]}}, "tenure: shape"),
        ({"tenure": {"shape": [True]}}, "tenure: shape"),
        ({"tenure": {"shape": "1"}}, "tenure: shape"),
        ({"tenure": {"shape": [10**9], "data": []}}, "1000000000 rows, expected at most 100"),
        ({"tenure": {"shape": [2], "data": [1, 2]}}, "every tensor needs the same first dimension"),
        ({"tenure": {"datatype": "BYTES"}}, "tenure: expected the datatype FP64"),
        ({"tenure": {"datatype": ["FP64"]}}, "tenure: expected the datatype"),
        ({"contract": {"datatype": "FP64"}}, "contract: expected the datatype BYTES"),
        ({"tenure": {"datatype": "INT64", "data": [1.5]}}, "INT64: expected an integer"),
        ({"tenure": {"datatype": "INT32", "data": [2**40]}}, "INT32: expected an integer"),
        ({"tenure": {"datatype": "BOOL", "data": [1]}}, "BOOL: expected true or false"),
        ({"tenure": {"data": ["5"]}}, "tenure: row 0: expected a number, got text"),
        ({"tenure": {"data": [[5], 5]}}, "either a flat array or an array of rows"),
        ({"tenure": {"data": "AAAA"}}, "data: expected an array"),
        ({"contract": {"data": [5]}}, "contract: BYTES: expected text, got a number"),
        ({"tenure": {"name": "contract"}}, "contract: expected the datatype BYTES"),
        ({"tech_support": {"name": "contract"}}, "the tensor contract is there twice"),
        ({"tenure": {"name": "tenur"}}, "unknown tensor 'tenur'"),
        ({"tenure": {"name": 5}}, "expected objects with name"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(client: httpx.Client, change: dict[str, Any], words: str) -> None:
    got = client.post(INFER, json=tensors([ROW], **change))
    assert got.status_code == 400
    assert words in got.json()["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], 'expected an object with "inputs"'),
        ({"inputs": {}}, 'expected an object with "inputs"'),
        ({"inputs": []}, "missing contract, internet_service"),
        ({**tensors([ROW]), "id": 5}, "id: expected text"),
        ({**tensors([ROW]), "outputs": [{"name": "score"}]}, "unknown tensor 'score'; the model gives prediction"),
        ({**tensors([ROW]), "outputs": "prediction"}, "outputs: expected an array"),
    ],
)
def test_a_request_that_is_none_is_refused(client: httpx.Client, body: Any, words: str) -> None:
    got = client.post(INFER, json=body)
    assert got.status_code == 400
    assert words in got.json()["error"]
