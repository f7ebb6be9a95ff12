"""The long-running process: one socket, one event loop, the application, and a clean end."""

from __future__ import annotations

import errno
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from streaming import adapters as registry
from streaming import config as cfg
from streaming.api.app import create_app
from streaming.api.certificate import Certificate
from streaming.api.connections import BoundedProtocol
from streaming.api.health import HealthSource
from streaming.api.routes_stored import Lookup
from streaming.api.served import Models
from streaming.api.sources import ConfigSource
from streaming.config.sections import Api
from streaming.config.stores import StoreSection
from streaming.errors import EnvironmentFailure
from streaming.runtime import audit

log: Final = logging.getLogger(__name__)

#: Requests that are still running this long after SIGTERM are cut off.
_GRACE_S: Final = 20
#: Longer than a pause between two requests of a busy client, shorter than most proxies wait.
_KEEP_ALIVE_S: Final = 30


def serve(path: Path) -> None:
    """Answer until SIGTERM or Ctrl-C; requests that came in before are answered to the end. SIGHUP looks for a new version.

    ConfigError, ModelError or EnvironmentFailure when it cannot start: each before the first request is taken.
    """
    config = cfg.load(path)
    settings = config.api
    listener = listen(settings)
    with listener:
        models = Models({config.model.name: ConfigSource(path)})
        store, no_store = lookup(config.store)
        tls = None if settings.tls is None else Certificate(settings.tls)
        looks = () if tls is None else (tls.look,)
        report = HealthSource.of(config).report
        app = create_app(models, store, settings, no_store=no_store, also=looks, health=report, audit=audit.of(config))
        setup = configured(app, settings)
        if tls is not None:
            tls.install(setup)
        server = uvicorn.Server(setup)
        # The server raises what stopped it once more when it has ended, for whoever was there before; here nobody dies of it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: models.recheck())
        host, port = listener.getsockname()[:2]
        # From here on a caller waits instead of being turned away while the server starts.
        listener.listen()
        scheme = "http" if tls is None else "https"
        log.info("api name=%s listens=%s://%s:%d", config.name, scheme, f"[{host}]" if ":" in host else host, port)
        server.run(sockets=[listener])
    log.info("api name=%s stopped", config.name)


def configured(app: ASGIApp, settings: Api) -> uvicorn.Config:
    """How the server runs the application: within the bounds of :mod:`streaming.api.connections`."""
    return uvicorn.Config(
        app,
        http=partial(BoundedProtocol, most=settings.max_connections),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        # X-Forwarded-For would let a caller choose whose rate it uses up.
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def listen(settings: Api) -> socket.socket:
    """The socket, bound before anything slow is done. EnvironmentFailure when the port is taken or the address is not ours."""
    where = f"{settings.host} port {settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind)
    except OSError as unknown:
        raise EnvironmentFailure(f"api.host: {settings.host} is no address of this machine: {unknown.strerror}") from unknown
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as refused:
        listener.close()
        if refused.errno == errno.EADDRINUSE:
            words = f"{where}: another process listens there; stop it, or choose another api.port"
        elif refused.errno == errno.EACCES:
            words = f"{where}: not allowed to this user; choose an api.port of 1024 or more"
        else:
            words = f"{where}: cannot listen there: {refused.strerror}; check api.host"
        raise EnvironmentFailure(words) from refused
    return listener


def lookup(section: StoreSection, *, adapters: dict[str, tuple[str, str]] = registry.STORES) -> tuple[Lookup | None, str]:
    """The store as something to look keys up in, or None and why there is none."""
    if section.kind == "delta":
        return (
            None,
            "the store is a Delta table, which only Spark reads: `streaming get CONFIG KEY` does; sqlite, postgres and redis answer here",
        )
    open_store: Callable[[object, None], Lookup] = registry.load(section.kind, adapters).open
    return open_store(section, None), ""
