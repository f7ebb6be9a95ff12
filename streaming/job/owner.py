"""What a state folder belongs to: the job, the topics that its offsets mean, and the files of each version that was served.

Looked at by whoever asks whether the job can run, written down only by a job that will.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from streaming.config.load import Config
from streaming.errors import StateError
from streaming.job import topics
from streaming.runtime import model_versions
from streaming.runtime.files import Folder

_FILE: Final = "job.json"


def agree(folder: Folder, config: Config, topic_ids: Mapping[str, str]) -> None:
    """Refuse (StateError) the state folder of another job, or of other topics: its offsets would be taken for ours. Nothing is written."""
    mine, content = _who(config), folder.read(_FILE)
    owner = json.loads(content) if content else mine
    if owner != mine:
        theirs = ", ".join(f"{key}={value}" for key, value in owner.items())
        raise StateError(
            f"{config.state}: the state of another job ({theirs}); expected {', '.join(f'{k}={v}' for k, v in mine.items())}; "
            "give this job a state folder of its own"
        )
    topics.agree(folder, topic_ids, where=config.state)


def write_down(folder: Folder, config: Config, topic_ids: Mapping[str, str], *, sha256: str | None) -> None:
    """The job will run: from here on the folder is its own, and the version of its model has these files. StateError or ModelError when another was faster."""
    if not folder.create(_FILE, json.dumps(_who(config)).encode()):
        agree(folder, config, topic_ids)
    topics.remember(folder, topic_ids)
    if sha256 is not None:
        section = config.model
        model_versions.claim(folder, model=section.name, version=section.version, sha256=sha256, uri=section.uri)


def _who(config: Config) -> dict[str, str]:
    return {"name": config.name, "events": config.events.topic, "predictions": config.predictions.topic}
