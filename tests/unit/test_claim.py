"""One process for each lane of a state folder: the second is told, others are not disturbed, and kill -9 lets go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streaming.errors import TransientError
from streaming.runtime import claim
from streaming.runtime.files import LocalFolder

_HOLDS = """
import sys
from pathlib import Path
from streaming.runtime.claim import claim
from streaming.runtime.files import LocalFolder
with claim(LocalFolder(Path(sys.argv[1])), "score"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_of_a_lane_is_refused_until_the_first_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = LocalFolder(tmp_path / "state")
    monkeypatch.setattr(claim, "_PATIENCE_S", 0.1)
    assert claim.is_claimed(state, "score") is False
    with subprocess.Popen([sys.executable, "-c", _HOLDS, str(state.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        assert claim.is_claimed(state, "score")
        with pytest.raises(TransientError, match=r"another process runs the lane score on this state folder; stop it first"):
            claim.claim(state, "score").__enter__()
        with claim.claim(state, "store"), claim.claim(state, "learn"):  # `serve --lanes` of several processes
            assert claim.is_claimed(state, "learn")
        first.kill()
    with claim.claim(state, "score"):
        assert claim.is_claimed(state, "score")
    assert claim.is_claimed(state, "score") is False
