"""The smallest configuration of a job, for tests that ask about something else and start nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def smallest(folder: Path | str, **sections: Any) -> dict[str, Any]:
    """Everything that must be said, with its files in `folder`; `sections` come on top, or in place of these."""
    return {
        "name": "churn",
        "kafka": {"bootstrap_servers": "localhost:1"},
        "events": {"topic": "customers", "schema": "id STRING", "key": "id"},
        "model": {"name": "churn", "version": "1", "uri": f"{folder}/model"},
        "predictions": {"topic": "p", "rejected_topic": "r"},
        "store": {"kind": "sqlite", "path": f"{folder}/predictions.db"},
        "state": f"{folder}/state",
        **sections,
    }
