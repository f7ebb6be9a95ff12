"""The lanes of a job, stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from py4j.protocol import Py4JError

from streaming.job.supervise import Lane

log = logging.getLogger(__name__)


def stop(running: Iterable[Lane]) -> None:
    """Stop every lane; one that is gone already is stopped enough."""
    for lane in running:
        try:
            lane.query.stop()
        except Py4JError as error:
            log.debug("lane %s was gone already: %s", lane.name, type(error).__name__)
