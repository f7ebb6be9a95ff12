"""A model to be converted, as it was saved: opened and checked as for scoring, and asked for the answers it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streaming.convert.converted import Converted
from streaming.scorers.base import Columns, Scores


@dataclass(frozen=True)
class Original:
    """A model as it was saved. Made by `original(section, spark)` of the module that :data:`streaming.adapters.FORMATS` names."""

    convert: Callable[[], Converted]
    score: Callable[[Columns, Converted], Scores]
    sha256: str
    #: The largest difference that a portable form may have.
    tolerance: float
    #: Its training manifest, if it has one.
    manifest: Mapping[str, Any] | None = None
