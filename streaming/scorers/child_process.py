"""The process that holds one model, see :mod:`streaming.scorers.child`: reads requests from stdin, answers on what was stdout."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from streaming import adapters
from streaming.config.sections import SavedModel
from streaming.config.values import size
from streaming.errors import ModelError, StreamingError
from streaming.scorers import wire
from streaming.scorers.base import Scorer
from streaming.scorers.files import Package

#: A JVM reserves far more addresses than it uses: its own options bound it (see :mod:`streaming.scorers.pmml`).
_IN_A_JVM: Final = frozenset({"pmml"})
_LOOK_EVERY_S: Final = 1.0


def main() -> None:
    """Serve one parent until it closes the pipe."""
    requests, answers = _pipes()
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    scorer: Scorer | None = None
    while (message := _read(requests)) is not None:
        said, arrays = message
        try:
            if said["do"] == "open":
                scorer = _open(said, arrays)
                answer = wire.pack({"ok": True, **_described(scorer)})
            else:
                answer = _answer(scorer, str(said["do"]), arrays)
        except StreamingError as refused:
            answer = wire.pack({"ok": False, "kind": type(refused).__name__, "words": str(refused)})
        except MemoryError:
            answer = wire.pack({"ok": False, "kind": "ModelError", "words": "the model needs more memory than model.limits gives it"})
        answers.write(answer)
        answers.flush()


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Stdin, and what was stdout: whatever a library prints from here on goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return requests, answers


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _read(requests: BinaryIO) -> wire.Message | None:
    head = requests.read(wire.HEAD.size)
    if len(head) < wire.HEAD.size:
        return None
    first, second = wire.HEAD.unpack(head)
    return wire.unpack(requests.read(first), requests.read(second))


def _open(said: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Scorer:
    section = SavedModel.model_validate(said["section"])
    _limit(section)
    package = Package(str(said["uri"]), {name: content.tobytes() for name, content in arrays.items()}, bool(said["is_folder"]))
    scorer: Scorer = adapters.scorer_of(section.format).open_scorer(package, section)
    return scorer


def _limit(section: SavedModel) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if section.format not in _IN_A_JVM:
        most = size(section.limits.memory)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _described(scorer: Scorer) -> dict[str, Any]:
    known: Any = getattr(scorer, "categories", dict)()
    linear = getattr(scorer, "manifest", {}).get("linear") is not None if hasattr(scorer, "contributions") else False
    return {"inputs": dict(scorer.inputs()), "categories": {name: list(values) for name, values in known.items()}, "linear": linear}


def _answer(scorer: Scorer | None, what: str, columns: Mapping[str, NDArray[Any]]) -> bytes:
    if scorer is None:
        raise ModelError("no model was opened")
    if what == "contributions":
        said: Any = getattr(scorer, "contributions", lambda _: None)(columns)
        return wire.pack({"ok": True}, {name: np.asarray(values) for name, values in (said or {}).items()})
    return wire.of_scores(scorer.score(columns))


if __name__ == "__main__":
    main()
    sys.exit(0)
