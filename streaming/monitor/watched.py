"""Which models a job's monitor watches, and in which cells the answers of each are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from streaming.config.load import Config
from streaming.errors import ConfigError
from streaming.monitor.baseline import Baseline
from streaming.monitor.bins import Column, probability
from streaming.monitor.quality import Task
from streaming.monitor.windows import Watched

_TASKS: Final[dict[str, Task]] = {
    "logistic_regression": "probability",
    "softmax": "class",
    "kmeans": "class",
    "linear_regression": "number",
    "ridge": "number",
    "poisson": "number",
}


def watched(config: Config, baseline: Baseline) -> tuple[Watched, ...]:
    """The saved model first, then the learners. ConfigError when the baseline is that of another model."""
    if baseline.score is not None and baseline.score.name != config.model.name:
        raise ConfigError(
            f"the baseline is that of the model {baseline.score.name!r}, not of {config.model.name!r} (model.name); "
            "make one for it: streaming baseline CONFIG --data …"
        )
    saved = Watched(config.model.name, baseline.task, baseline.score or _cells(config.model.name, baseline.task, baseline))
    tasks = {learner.name: _TASKS.get(learner.algorithm, baseline.task) for learner in config.learners}
    return saved, *(Watched(name, task, _cells(name, task, baseline)) for name, task in tasks.items())


def _cells(name: str, task: Task, baseline: Baseline) -> Column:
    """The cells for a model that the baseline knows nothing of: those of the saved model where they fit."""
    if task == "probability":
        return probability(name)
    if baseline.score is not None and baseline.task == task:
        return replace(baseline.score, name=name)
    return Column(name, "number" if task == "number" else "category")
