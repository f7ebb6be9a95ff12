"""In which order the files of a whole run start: the longest first, so that two workers end at about the same time."""

from __future__ import annotations

from typing import Final

import pytest

#: Folders, the one with the longest files first; a file alone at the end of a run would leave the other worker idle.
_FOLDERS: Final = ("live", "spark", "stores", "api", "unit")
#: Files of the first two folders that take a minute or more.
_LONGEST: Final = (
    "test_service.py",
    "test_parity.py",
    "test_training.py",
    "test_learn_lane.py",
    "test_guard.py",
    "test_sparkml.py",
    "test_lanes_apart.py",
    "test_explain.py",
    "test_convert.py",
    "test_learn_inline.py",
)


def place(item: pytest.Item) -> tuple[int, int]:
    """Sorts by it, stably: the order inside a file stays."""
    folder = next((i for i, name in enumerate(_FOLDERS) if name in item.path.parts), len(_FOLDERS))
    if item.path.name in _LONGEST:
        return -1, _LONGEST.index(item.path.name)
    return folder, 0
