"""This project: the command `streaming serve` with the demo's configuration, in either mode, with one lane or all."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from benchmarks.systems.base import ROOT, Place
from streaming.runtime import jars


@dataclass(frozen=True)
class Ours:
    """One way to run the service."""

    title: str
    mode: str
    lanes: tuple[str, ...] = ("score",)
    #: "onnx": the packaged graph in Arrow batches instead of the Spark pipeline.
    format: str = "spark"
    #: Further settings, section -> key -> value.
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answers: bool = True

    @property
    def learns(self) -> bool:
        """True with the lane LEARN."""
        return "learn" in self.lanes

    @property
    def realtime(self) -> bool:
        """True in real-time mode."""
        return self.mode == "realtime"

    def missing(self) -> None:
        """Never: it is what is measured."""

    def environment(self) -> Mapping[str, str]:
        """This checkout, whatever is installed."""
        return {"PYTHONPATH": str(ROOT)}

    def commands(self, place: Place) -> list[list[str]]:
        """`streaming serve` over a configuration written into the system's folder."""
        path = place.folder / "job.yaml"
        path.write_text(yaml.safe_dump(self.configuration(place), sort_keys=False))
        return [[sys.executable, "-m", "streaming", "-v", "serve", str(path), "--lanes", ",".join(self.lanes)]]

    def configuration(self, place: Place) -> dict[str, Any]:
        """The demo's, with these topics."""
        text = jars.conf_file("demo.yaml").read_text()
        tree: dict[str, Any] = yaml.safe_load(
            text.replace("${env:DEMO_BROKER}", place.servers).replace("${env:DEMO_HOME}", str(place.home))
        )
        tree["events"]["topic"] = place.events
        tree["predictions"] = {"topic": place.out, "rejected_topic": f"{place.out}.rejected", "shadow_topic": f"{place.out}.shadow"}
        tree["labels"]["topic"] = place.labels
        tree["score"] = {"mode": self.mode, "trigger": place.trigger if self.realtime else "0 seconds"}
        tree["state"], tree["store"]["path"] = str(place.folder / "state"), str(place.folder / "predictions.db")
        if self.format == "onnx":
            tree["model"] |= {"format": "onnx", "uri": str(place.home / "package")}
        if not self.learns:
            del tree["learners"], tree["labels"], tree["predictions"]["shadow_topic"]
        for section, values in self.settings.items():
            tree[section] = {**tree.get(section, {}), **values}
        return tree


REALTIME_SCORE = Ours("ours, real-time, score alone", "realtime")
REALTIME_STORE = Ours("ours, real-time, score + store", "realtime", ("score", "store"))
REALTIME_ALL = Ours("ours, real-time, all lanes", "realtime", ("score", "store", "learn"))
MICROBATCH_SCORE = Ours("ours, micro-batch, score alone", "microbatch")
MICROBATCH_ALL = Ours("ours, micro-batch, all lanes", "microbatch", ("score", "store", "learn"))
MICROBATCH_ONNX = Ours("ours, micro-batch, the model as ONNX in Arrow", "microbatch", format="onnx")
