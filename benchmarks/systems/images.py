"""A plain consumer of images with ONNX Runtime, polled in batches.

python -m benchmarks.systems.images SERVERS EVENTS OUT FOLDER HOME TRIGGER
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.systems import plain
from benchmarks.systems.base import Place, place


def network(at: Place) -> plain.Score:
    """Crayfish's network, one session with one thread."""
    session = plain.session(at.home / "crayfish.onnx")

    def score(events: list[dict[str, Any]]) -> np.ndarray:
        pixels = np.array([event["pixels"] for event in events], dtype=np.float32)
        return session.run(["probabilities"], {"pixels": pixels})[0]

    return score


def main() -> None:
    """Score until told to stop."""
    at = place(sys.argv[1:])
    plain.serve(at, network(at), "0/1")


if __name__ == "__main__":
    main()
