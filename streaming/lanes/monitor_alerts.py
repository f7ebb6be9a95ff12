"""Alerts on their way: onto the topic, to the webhook, into the log; and what the rules ask to be done.

Each is done at least once: a crash between two steps does it again, with the same id.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from streaming.config.load import Config
from streaming.learning.commands import Command, Commands
from streaming.monitor import webhook
from streaming.monitor.alerts import Alert
from streaming.monitor.verdict import Beside
from streaming.runtime.files import Folder

log = logging.getLogger(__name__)

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


def tell(told: Sequence[Alert], beside: Beside, config: Config, send: Callable[[str, Sequence[tuple[str, str]]], None]) -> Beside:
    """Tell people; returns what is remembered after that: what the webhook did not take. `send`: writes (key, value) to a topic."""
    assert config.monitor is not None
    section = config.monitor.alerts
    aloud = [alert for alert in told if not alert.silenced and (alert.state == "over" or "notify" in alert.do)]
    for alert in told:
        level = logging.INFO if alert.silenced or alert.state == "over" else _LEVELS[alert.severity]
        log.log(level, "%s%s", alert.line(), " (silenced)" if alert.silenced else "")
    bodies = [alert.to_json() for alert in aloud]
    if bodies and section.topic is not None:
        send(section.topic, [(body["id"], json.dumps(body, allow_nan=False)) for body in bodies])
    if section.webhook is None:
        return beside
    return {**beside, "undelivered": webhook.deliver([*beside.get("undelivered", []), *bodies], section.webhook)}


def act(new: Sequence[Alert], beside: Beside, config: Config, state: Folder) -> Beside:
    """Do what the rules say of alerts that were raised only now; what could not be asked yet is asked with the next batch."""
    due = list(beside.get("due", []))
    for alert in new:
        due += [["freeze", learner.name, alert.id] for learner in config.learners if "freeze_learner" in alert.do]
        due += [["retrain", "", alert.id]] * ("retrain" in alert.do)
    return {**beside, "due": [entry for entry in due if not _done(*entry, state=state)]}


def _done(what: str, learner: str, alert: str, *, state: Folder) -> bool:
    if what == "retrain":
        request: dict[str, Any] = {"alert": alert, "asked_by": "monitor"}
        if state.below("lifecycle").create(f"retrain-{alert}.json", json.dumps(request).encode()):
            log.warning("alert=%s retrain asked: lifecycle/retrain-%s.json in the state folder", alert, alert)
        return True
    commands = Commands(state.below("learners").below(learner))
    command = Command(f"freeze-{alert}", None, freeze=f"alert {alert}", by="the monitor")
    if commands.answer_to(command.id) is not None:
        return True
    if commands.waiting() not in (None, command):
        return False  # what a person asked for comes first
    commands.ask(command)
    log.warning("alert=%s learner=%s freeze asked; learn on with: streaming resume CONFIG %s", alert, learner, learner)
    return True
