"""Secrets that are planted in a configuration, and where they came to stand."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
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


@dataclass
class Planted:
    """A secret of its own for each option: where one comes to stand, it says which option lost it."""

    _pieces: dict[bytes, str] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=random.SystemRandom)

    def secret(self, option: str, *, marks: str = '"\\/&') -> str:
        """A new secret: letters and digits that no form changes, and between them `marks`, which programs escape."""
        pieces = ["".join(self._chance.choices("abcdefghkmnpqrstuvwxyz23456789", k=12)) for _ in range(len(marks) + 1)]
        for piece in pieces:
            self._pieces.update((form, option) for form in _forms(piece))
        return "".join(piece + mark for piece, mark in zip(pieces, [*marks, ""], strict=True))

    def in_text(self, text: bytes | str | None) -> set[str]:
        """The options whose secrets stand in the text, in part or as a whole: as they are, escaped for JSON or a URL, or in base64."""
        content = text.encode() if isinstance(text, str) else text or b""
        return {option for form, option in self._pieces.items() if form in content}

    def in_folder(self, folder: Path) -> Iterator[str]:
        """`file: option` for each file below the folder whose content or name has a secret."""
        for path in sorted(folder.rglob("*")):
            name = self.in_text(str(path.relative_to(folder)))
            content = self.in_text(path.read_bytes()) if path.is_file() else set()
            yield from (f"{path}: {option}" for option in sorted(name | content))


def _forms(piece: str) -> Iterator[bytes]:
    """The piece, and the part of its base64 that is the same whatever stands around it, at each of the three offsets."""
    yield piece.encode()
    yield piece.encode().hex().encode()
    for before in range(3):
        whole = base64.b64encode(b"." * before + piece.encode())
        yield whole[4 if before else 0 : (len(piece) + before) // 3 * 4]
