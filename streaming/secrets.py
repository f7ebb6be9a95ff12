"""Keeps secrets out of what people read: values that came from the environment are masked wherever text leaves the process."""

from __future__ import annotations

import re
from typing import Final

_known: Final[set[str]] = set()

#: Passwords inside connection strings, whoever wrote them down: "scheme://user:password@host".
_IN_URL: Final = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^:/@\s]*:)(?:[^/\s]+|[^@\s]+)(?=@)", re.IGNORECASE)
#: Values of options that are named like secrets: `password = "x"`, `sasl.jaas.config=...`.
_NAMED: Final = re.compile(r"(?P<head>(?:password|secret|token)\w*[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;]+)", re.IGNORECASE)


def remember(value: str) -> None:
    """From now on mask `value` in every text that goes through :func:`redact`. Values under 4 characters are too common to mask."""
    if len(value) >= 4:
        _known.add(value)


def redact(text: str) -> str:
    """The text with every known secret, password in a URL and password-like option masked as `***`."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, "***")
    return _NAMED.sub(r"\g<head>***", _IN_URL.sub(r"\g<head>***", text))
