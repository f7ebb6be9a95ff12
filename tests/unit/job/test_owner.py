"""A state folder belongs to the first job that runs with it; who only asks whether a job could run changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming import config as cfg
from streaming.errors import ModelError, StateError
from streaming.job import owner
from streaming.runtime.files import LocalFolder
from tests.support.smallest import smallest

TREE = smallest("nowhere")


def test_asking_writes_nothing_and_running_binds(tmp_path: Path) -> None:
    folder, mine, ids = LocalFolder(tmp_path / "state"), cfg.parse(TREE), {"customers": "A", "p": "B"}
    owner.agree(folder, mine, ids)
    assert not (tmp_path / "state").exists()
    owner.agree(folder, mine, ids | {"customers": "made anew before anything ran"})
    for _ in range(2):
        owner.write_down(folder, mine, ids, sha256="a" * 64)
    owner.agree(folder, mine, ids)
    with pytest.raises(StateError, match=r"nowhere/state: customers: deleted and made anew"):
        owner.agree(folder, mine, ids | {"customers": "C"})
    with pytest.raises(StateError, match=r"the state of another job \(name=churn"):
        owner.agree(folder, cfg.parse(TREE | {"name": "other"}), ids)
    with pytest.raises(ModelError, match=r"the files changed under churn version 1"):
        owner.write_down(folder, mine, ids, sha256="b" * 64)


def test_of_two_jobs_that_begin_at_once_one_owns_the_folder(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "state")
    for name in ("first", "second"):
        owner.agree(folder, cfg.parse(TREE | {"name": name}), {})
    owner.write_down(folder, cfg.parse(TREE | {"name": "first"}), {}, sha256=None)
    with pytest.raises(StateError, match="the state of another job"):
        owner.write_down(folder, cfg.parse(TREE | {"name": "second"}), {}, sha256=None)
