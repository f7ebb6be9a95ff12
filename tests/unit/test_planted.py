"""A search for planted secrets that would not notice one proves nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.planted import Planted

WRITTEN = {
    "as it is": str,
    "its beginning": lambda secret: secret[:14],
    "its end": lambda secret: secret[-14:],
    "JSON": json.dumps,
    "URL": lambda secret: quote(secret, safe=""),
    "hex": lambda secret: secret.encode().hex(),
    **{f"base64 behind {n}": lambda secret, n=n: base64.b64encode(("u:" + "x" * n + secret).encode()).decode() for n in range(3)},
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_secret_is_seen_in_every_form_and_says_whose_it_is(form: str, tmp_path: Path) -> None:
    planted = Planted()
    mine, other = planted.secret("mine"), planted.secret("other")
    text = f"before{WRITTEN[form](mine)}after"
    assert planted.in_text(text) == {"mine"}
    assert planted.in_text(text.replace(WRITTEN[form](mine), "***")) == set()
    (tmp_path / "log").write_text(text)
    (tmp_path / other.replace("/", "-")).mkdir()
    assert {each.rpartition(": ")[2] for each in planted.in_folder(tmp_path)} == {"mine", "other"}
