"""A secret that is planted in a configuration, and where it came to stand."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

#: With everything in it that programs escape.
SECRET = 'pl"anted\\s/ecr&et'
#: Its forms, and its middle, which no form changes.
FORMS = {SECRET, quote(SECRET, safe=""), "anted\\\\s", "anted\\s", base64.b64encode(SECRET.encode()).decode(), "ecr&et"}


def where_it_stands(folder: Path) -> list[str]:
    """The files below the folder that hold the secret in any form."""
    needles = [form.encode() for form in FORMS]
    return [str(path) for path in sorted(folder.rglob("*")) if path.is_file() and any(needle in path.read_bytes() for needle in needles)]
