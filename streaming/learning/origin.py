"""What a learner's states belong to: the checkpoint whose batches they count, and what was learned on, by what.

States are addressed by batch number. Beside other batches under the same numbers (a checkpoint that was deleted, or
one from a backup) kept states would answer for rows they never saw; under another model or other parameters the same
numbers would mean something else. So the log says where it comes from, and what does not fit is an error with the way
out, never a guess. `learners/NAME.origin.json`; a log of before this file takes on what it first meets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from streaming.errors import StateError
from streaming.runtime.files import Folder

#: What is compared, and how a difference is called.
_WORDS: Final = {"algorithm": "algorithm", "params": "params", "features": "the stages of the saved pipeline that make its features"}


@dataclass(frozen=True)
class Origin:
    """Where the states of one learner come from."""

    #: The id of the query whose batches are counted; None: that of the next one to come.
    query: str | None = None
    #: The state after batch n of that query has the number n + shift.
    shift: int = 0
    #: What was learned on, by what: "algorithm", "params", "features" -> a fingerprint. What is not there is not compared.
    learned_on: Mapping[str, str] = field(default_factory=dict)
    #: Where a query that begins anew starts to read: topic -> partition -> offset. Empty: from the start.
    starting: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def of_section(algorithm: str, params: Mapping[str, Any], *, features: str | None) -> dict[str, str]:
    """What a configured learner learns on. `features`: the fingerprint of what makes them, None where it is not known."""
    canonical = json.dumps(params, sort_keys=True, default=str)
    known = {"algorithm": algorithm, "params": hashlib.sha256(canonical.encode()).hexdigest()[:16]}
    return known if features is None else {**known, "features": features}


def tied(origin: Origin, *, learner: str, begun: bool, query: str | None, learned_on: Mapping[str, str]) -> Origin:
    """The origin of a log that goes on with the batches of `query` (None: there is no checkpoint). StateError when it cannot.

    `begun`: whether there are states. A log that is new, or from before origins were written, takes on what it meets.
    """
    if begun and query is None and (origin.query is not None or origin == Origin()):
        raise StateError(
            f"learner {learner}: its states are kept, but the checkpoint of the learn lane (checkpoints/learn) is gone: batches would count from "
            f"0 again, and kept states would answer for rows they never saw; {_ways_out(learner)}; or restore checkpoints/learn from a backup"
        )
    if begun and query is not None and origin.query not in (None, query):
        raise StateError(
            f"learner {learner}: its states belong to another checkpoint (query {origin.query}) than checkpoints/learn is now (query {query}); "
            f"{_ways_out(learner)}; or restore the checkpoint that belongs to them"
        )
    changed = [_WORDS[part] for part in _WORDS if begun and differs(origin.learned_on, learned_on, part)]
    if changed:
        raise StateError(
            f"learner {learner}: {' and '.join(changed)} changed since it learned what it knows; where old weights still mean the same: "
            f"streaming learner migrate CONFIG {learner}; else begin anew: streaming learner reset CONFIG {learner}; or take the change back"
        )
    return replace(origin, query=query or origin.query, learned_on={**origin.learned_on, **learned_on})


def differs(old: Mapping[str, str], new: Mapping[str, str], part: str) -> bool:
    """Whether both say what was learned on, and not the same."""
    return part in old and part in new and old[part] != new[part]


def _ways_out(learner: str) -> str:
    return f"keep what was learned with: streaming learner migrate CONFIG {learner}; or forget it with: streaming learner reset CONFIG {learner}"


def read(learners: Folder, name: str) -> Origin:
    """What is written beside the log of the learner `name`; an empty one when nothing is."""
    content = learners.read(_file(name))
    if content is None:
        return Origin()
    said = json.loads(content)
    return Origin(**{key: said[key] for key in asdict(Origin()) if key in said})


def write(learners: Folder, name: str, origin: Origin) -> None:
    """Write it, unless it stands there already."""
    if read(learners, name) != origin:
        learners.replace(_file(name), json.dumps(asdict(origin)).encode())


def query_of(checkpoint: Folder) -> str | None:
    """The id of the query that a checkpoint belongs to; None when there is no checkpoint."""
    content = checkpoint.read("metadata")
    return None if content is None else str(json.loads(content)["id"])


def are_lost(checkpoint: Folder, learners: Folder) -> bool:
    """Whether batches were learned, but nothing of any learner is there: neither states nor, after `streaming learner reset`, their origin.

    A job that was killed in its first batch leaves a checkpoint without a commit: there was nothing to lose, the batch comes again.
    """
    return next_batch(checkpoint) > 0 and not any(name.endswith((".started", ".origin.json")) for name in learners.names())


def next_batch(checkpoint: Folder) -> int:
    """The number of the batch that a checkpoint goes on with: the one after the last that was committed."""
    done = [int(name) for name in checkpoint.below("commits").names() if name.isdigit()]
    return max(done, default=-1) + 1


def ends(checkpoint: Folder, batch: int) -> dict[str, dict[str, int]]:
    """How far a batch reads: topic -> partition -> next offset. Empty when the checkpoint does not say (any more)."""
    content = checkpoint.below("offsets").read(str(batch))
    offsets: dict[str, dict[str, int]] = {}
    for line in (content or b"").decode().splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # the version of the format, or "-" for a source that has not read anything
        for topic, partitions in said.items() if isinstance(said, dict) else ():
            if isinstance(partitions, dict) and partitions and all(partition.isdigit() for partition in partitions):
                offsets[topic] = {partition: int(offset) for partition, offset in partitions.items()}
    return offsets


def _file(name: str) -> str:
    return f"{name}.origin.json"
