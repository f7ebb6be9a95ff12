"""Crayfish's feed-forward network, embedded as ONNX: 28 x 28 numbers in, ten classes out, about 28,000 weights.

    python -m benchmarks crayfish

The model and the shape of the events are those of "Crayfish: Navigating the Labyrinth of Machine Learning Inference in
Stream Processing Systems" (EDBT 2024): three hidden layers of 32 with ReLU, a softmax at the end, one image per event as
JSON text. The weights are random: what is measured is arithmetic and transport, not what the network knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from benchmarks import drain, harness
from benchmarks.results import Part
from benchmarks.systems.base import Place, Script
from benchmarks.systems.ours import Ours
from benchmarks.watch import Watch

PIXELS, LAYERS, CLASSES = 28 * 28, (32, 32, 32), 10
_SEED = 5
#: Different images; they come again and again.
_IMAGES = 500
BACKLOG = "images"
FILE = "crayfish.onnx"

PLAIN: Final = Script("plain consumer + ONNX Runtime, batches", "images", needs=("onnxruntime", "confluent_kafka"))


@dataclass(frozen=True)
class Network(Ours):
    """The service over images instead of customers."""

    def configuration(self, place: Place) -> dict[str, Any]:
        """The demo's kafka section, and little else of it."""
        tree = super().configuration(place)
        tree["events"] = {"topic": place.events, "key": "customer_id", "time": "event_time"}
        tree["events"]["schema"] = "customer_id STRING, event_time STRING, pixels ARRAY<DOUBLE>"
        tree["model"] = {"name": "churn", "version": "1", "format": "onnx", "uri": str(place.home / FILE)}
        del tree["train"]
        return tree


OURS: Final = Network("ours, micro-batch, ONNX in Arrow", "microbatch")


def build(path: Path) -> None:
    """Write the network."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    rng = np.random.default_rng(_SEED)
    sizes, nodes, weights, current = (PIXELS, *LAYERS, CLASSES), [], [], "pixels"
    for i, (before, after) in enumerate(pairwise(sizes)):
        weights.append(numpy_helper.from_array((rng.normal(size=(before, after)) / np.sqrt(before)).astype(np.float32), f"w{i}"))
        weights.append(numpy_helper.from_array(rng.normal(size=after).astype(np.float32), f"b{i}"))
        nodes.append(helper.make_node("Gemm", [current, f"w{i}", f"b{i}"], [f"g{i}"]))
        last = i == len(LAYERS)
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"g{i}"], ["probabilities" if last else f"a{i}"]))
        current = f"a{i}"
    nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        "crayfish-ffnn",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [None, PIXELS])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, CLASSES]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))


def images() -> dict[str, tuple[bytes, list[float]]]:
    """Key -> (the event, its pixels): numbers from 0 to 1 with three digits, as an image of 256 grey levels has them."""
    rng = np.random.default_rng(_SEED + 1)
    made = {}
    for i in range(_IMAGES):
        pixels = np.round(rng.random(PIXELS), 3).tolist()
        event = {"customer_id": f"I{i}", "event_time": "2026-01-01T00:00:00.000000+00:00", "pixels": pixels}
        made[f"I{i}"] = (json.dumps(event).encode(), pixels)
    return made


def expected(path: Path, made: Mapping[str, tuple[bytes, list[float]]]) -> dict[str, float]:
    """Key -> the probability of class 1, by ONNX Runtime itself."""
    pixels = np.array([pixels for _, pixels in made.values()], dtype=np.float32)
    said = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["probabilities"], {"pixels": pixels})[0]
    return dict(zip(made, said[:, 1].tolist(), strict=True))


def measure(bench: harness.Bench, plan: drain.Plan, part: Part, watch: Watch) -> None:
    """Drain a backlog of images by the service and by a plain consumer."""
    build(bench.home / FILE)
    made = images()
    watch.say(f"crayfish · fill with {plan.events:,} images")
    harness.create_topics(bench.servers, BACKLOG)
    sink = harness.Sink({**harness.client(bench.servers), "linger.ms": 20, "compression.type": "lz4"})
    keys = list(made)
    for i in range(plan.events):
        key = keys[i % len(keys)]
        sink.send(BACKLOG, key=key.encode(), value=made[key][0])
    sink.flush()
    answers = expected(bench.home / FILE, made)
    for name, system in (("ours", OURS), ("plain", PLAIN)):
        watch.say(f"crayfish · {system.title}")
        place = Place(bench.servers, BACKLOG, f"classes.{name}", bench.folder / f"crayfish-{name}", bench.home, "1 minute")
        drain.drained(system, place, plan, part, answers, f"{plan.events:,} images, {len(made[keys[0]][0]):,} bytes each", tolerance=1e-6)
