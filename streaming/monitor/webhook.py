"""Alerts over HTTP: a JSON body, signed, tried again, and never in the way for long.

The receiver tells repeats apart by the header `X-Alert-Id`: an alert is sent at least once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final

from streaming.config.monitoring import Webhook
from streaming.config.values import seconds

log = logging.getLogger(__name__)

#: The pause before the second try; doubled before each further one.
_PAUSE_S: Final = 0.5
#: What could not be delivered is kept for the next batch, the newest so many.
KEPT: Final = 100


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the body, and its signature, to an address that nobody configured."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)


def deliver(bodies: Sequence[Mapping[str, Any]], hook: Webhook, *, pause: Callable[[float], None] = time.sleep) -> list[Mapping[str, Any]]:
    """POST each body; returns those that could not be delivered. After the first that fails the rest is not tried: the receiver is down."""
    for i, body in enumerate(bodies):
        if not _tried(body, hook, pause):
            return list(bodies[i:])[-KEPT:]
    return []


def _tried(body: Mapping[str, Any], hook: Webhook, pause: Callable[[float], None]) -> bool:
    for attempt in range(hook.tries):
        if attempt:
            pause(_PAUSE_S * 2 ** (attempt - 1))
        try:
            with _OPENER.open(request(body, hook), timeout=seconds(hook.timeout)):
                return True
        except urllib.error.HTTPError as refused:
            # Refused for good: sending it again would bring the same answer. It is not kept, and that is said.
            if 400 <= refused.code < 500 and refused.code not in (408, 425, 429):
                log.warning("alert=%s webhook refused it: HTTP %d; check monitor.alerts.webhook", body.get("id"), refused.code)
                return True
            why = f"HTTP {refused.code}"
        except (OSError, ValueError, HTTPException) as failed:  # the last: what answers does not speak HTTP
            why = type(failed).__name__
    log.warning("alert=%s webhook does not take it: %s; it is tried again with the next batch", body.get("id"), why)
    return False


def request(body: Mapping[str, Any], hook: Webhook) -> urllib.request.Request:
    """The request for one alert. Signature: HMAC-SHA-256 of the body's bytes."""
    data = json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "streaming-scoring", "X-Alert-Id": f"{body.get('id')}:{body.get('state')}"}
    if hook.secret is not None:
        headers["X-Signature-256"] = "sha256=" + hmac.new(hook.secret.get_secret_value().encode(), data, hashlib.sha256).hexdigest()
    return urllib.request.Request(hook.url.get_secret_value(), data=data, headers=headers, method="POST")
