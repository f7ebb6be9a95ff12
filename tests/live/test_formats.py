"""A model that only Python can run, through the whole service: the lane, its rejected events, and the same answers in a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from streaming import config as cfg
from streaming.batch import run as batch
from streaming.batch.inputs import BatchInput
from tests.support import events
from tests.support.inside import Inside
from tests.support.job import outcome, send

pytestmark = pytest.mark.timeout(600)

N = 120


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A logistic regression over one text and two numbers, as one ONNX file."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = ["minutes", "calls"]
    rows = pd.DataFrame({"plan": ["basic", "plus", "pro"] * 40, "minutes": np.arange(120.0) % 17, "calls": np.arange(120.0) % 5})
    steps = ColumnTransformer([("plan", OneHotEncoder(handle_unknown="ignore"), ["plan"]), ("numbers", StandardScaler(), numbers)])
    fitted = make_pipeline(steps, LogisticRegression()).fit(rows, (np.arange(120) * 7) % 11 < 4)
    kinds = [("plan", StringTensorType([None, 1])), *((name, FloatTensorType([None, 1])) for name in numbers)]
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(to_onnx(fitted, initial_types=kinds, options={"zipmap": False}).SerializeToString())
    return path


def test_an_onnx_model_in_the_lane_and_in_a_batch(
    tree: dict[str, Any], onnx_model: Path, tmp_path: Path, spark: SparkSession, inside: Inside
) -> None:
    servers: str = tree["kafka"]["bootstrap_servers"]
    tree["model"] |= {"format": "onnx", "uri": str(onnx_model)}
    del tree["score"]
    sent = [*(events.good(i) for i in range(N)), (b"broken", b"{not json")]
    send(servers, tree["events"]["topic"], sent)

    def answered(at_least: int) -> Callable[[], bool]:
        return lambda: len((written := outcome(servers, tree)).predictions) + len(written.rejected) >= at_least

    with inside(tree) as job:
        job.until(answered(len(sent)), "all events answered")
        job.stop()
    assert "mode=microbatch" in job.text()
    written = outcome(servers, tree)
    assert [headers[0]["reason"] for headers in written.rejected.values()] == ["malformed_json"]
    streamed = {e["event_time"]: e["probability"] for answers in written.predictions.values() for e, _ in answers}
    assert len(streamed) == N
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(b"".join(value + b"\n" for _, value in sent))
    batch.run(cfg.parse(tree), BatchInput("json", str(lines)), str(tmp_path / "out"), spark)
    rows = spark.read.parquet(str(tmp_path / "out")).where("outcome = 'predicted'").collect()
    assert {str(row["event_id"]) for row in rows} == {f"events.jsonl:0:{i}" for i in range(N)}
    assert sorted(row["probability"] for row in rows) == sorted(streamed.values())
