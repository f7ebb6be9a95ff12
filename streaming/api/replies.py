"""The answers that every route gives in one form: JSON, and errors as {"error": words}."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from starlette.responses import Response

from streaming import secrets
from streaming.api.instances import Problem

JSON: Final = "application/json"


class Refusal(Exception):
    """A request that gets an error for its answer. Raised anywhere in a route; the text is for the caller."""

    def __init__(self, status: int, error: str, *, headers: Mapping[str, str] | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(error)
        self.status, self.error, self.headers, self.problems = status, error, dict(headers or {}), problems

    def response(self) -> Response:
        """The answer: {"error": words}, and {"errors": [{"instance", "field", "error"}]} where fields are to blame."""
        content: dict[str, object] = {"error": secrets.redact(self.error)}
        if self.problems:
            content["errors"] = [{**asdict(each), "field": each.field and secrets.redact(each.field)} for each in self.problems]
        return reply(content, status=self.status, headers=self.headers)


def reply(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The content as compact JSON. NaN and infinity are no JSON: they must not come here."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Response(text.encode(), status_code=status, headers=dict(headers or {}), media_type=JSON)
