"""The lanes of a job, stopped between two batches where that can be had: then nothing is done twice.

A micro-batch is over when its records are, so it is waited for. A batch of real-time mode lasts as long as its trigger:
it is waited for when its end is near enough, and stopped at once when not, for a wait that ends inside it would gain nothing.
What is stopped inside a batch is done again at the next start, from where the batch began.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from py4j.protocol import Py4JError

from streaming.job.report import new_batches
from streaming.job.supervise import Supervised, Supervisor

log = logging.getLogger(__name__)

#: After the end of a batch of real-time mode nothing is scored while the next one is planned, which takes some 200 ms.
_LOOK_EVERY_S: Final = 0.02
#: Ending the tasks of such a batch and writing its commit takes up to this.
_COMMIT_S: Final = 1.0


def stop(supervisor: Supervisor, *, within_s: float = 0.0) -> None:
    """Stop every lane; one that is gone already is stopped enough. `within_s`: how long batches under way are waited for."""
    supervisor.settle()
    deadline = time.monotonic() + within_s
    left = list(supervisor.lanes)
    while left:
        for lane in [each for each in left if is_between_batches(each, deadline)]:
            _stop(lane)
            left.remove(lane)
        if left:
            time.sleep(_LOOK_EVERY_S)


def is_between_batches(lane: Supervised, deadline: float) -> bool:
    """Whether to stop the lane now: it does nothing, has just ended a batch, or will end none before `deadline` (of `time.monotonic`)."""
    now = time.monotonic()
    if lane.query is None or now >= deadline:
        return True
    try:
        if not lane.query.isActive or new_batches(lane.query, after=lane.seen_at):
            return True
        if lane.lane.trigger_s is None:
            return not lane.query.status["isTriggerActive"]
    except (Py4JError, OSError):
        return True
    return lane.batch_began + lane.lane.trigger_s + _COMMIT_S > deadline and lane.batch_began + lane.lane.trigger_s > now


def _stop(lane: Supervised) -> None:
    try:
        if lane.query is not None:
            lane.query.stop()
    except (Py4JError, OSError) as error:
        log.debug("lane %s was gone already: %s", lane.lane.name, type(error).__name__)
    lane.stopped()
