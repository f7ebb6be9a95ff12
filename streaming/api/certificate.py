"""The service's certificate: read at the start, and again when its files change, without dropping a connection."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

import uvicorn

from streaming.config.sections import Tls
from streaming.errors import ConfigError

log: Final = logging.getLogger(__name__)


class Certificate:
    """Certificate and key of `api.tls`, as the server shows them to new connections."""

    def __init__(self, settings: Tls) -> None:
        """ConfigError when the two files cannot be read or do not belong together."""
        self._settings = settings
        self._mark = self._stats()
        self._context = self._read()

    def install(self, setup: uvicorn.Config) -> None:
        """Let the server speak TLS with this certificate, version 1.2 or newer."""
        setup.load()
        setup.ssl = self._context

    def look(self) -> None:
        """Show a new certificate from now on, if there is one. One that is broken changes nothing: the one before stays in force."""
        mark = self._stats()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._read()  # beside the one in force, which half a change would break
            self._context.load_cert_chain(self._settings.cert, self._settings.key)
        except (ConfigError, OSError) as broken:
            log.warning("the certificate before stays in force: %s", broken)
        else:
            log.info("certificate read anew from %s", self._settings.cert)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2

        def no_password() -> str:
            raise ConfigError(f"api.tls.key: {self._settings.key} is locked with a password; write it without one, mode 0600")

        try:
            context.load_cert_chain(self._settings.cert, self._settings.key, no_password)
        except OSError as broken:  # ssl.SSLError is one
            raise ConfigError(
                f"api.tls: {self._settings.cert} and {self._settings.key} are no pair of certificate and key: {broken.strerror or broken}; "
                "both are PEM files, and the certificate's own comes first"
            ) from broken
        return context

    def _stats(self) -> list[object]:
        """What changes when one of the files does."""
        stats: list[object] = []
        for path in map(Path, (self._settings.cert, self._settings.key)):
            try:
                stat = path.stat()
                stats.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
            except OSError:
                stats.append("gone")
        return stats
