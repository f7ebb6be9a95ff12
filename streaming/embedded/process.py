"""A server as a child process that never outlives this one, and a port for it to listen on."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from streaming.errors import EnvironmentFailure

HOST: Final = "127.0.0.1"
#: Free ports come from below the range that outgoing connections use (Linux: 32768 and up): while a killed server is
#: down, a client that keeps trying could otherwise be given the server's own port and keep it from coming back.
_PORTS: Final = range(20_000, 32_000)
#: Ends the server when this process dies without a word: the read returns when the pipe's other end is gone.
_WATCHDOG: Final = 'read -r _; kill -"$1" "$0"; sleep 10; kill -KILL "$0"'


class ServerProcess:
    """A running server. It ends with `stop`, with `kill`, or with this process, however that ends.

    `out` receives what the server prints. `stop_signal` asks it to stop. `user`: a user id to run as, for servers that
    refuse to run as root. `keep_open`: file descriptors that it shall hold as long as it lives.
    """

    def __init__(
        self, command: Sequence[str], *, out: Path, stop_signal: signal.Signals = signal.SIGTERM, user: int | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self._stop_signal = stop_signal
        with out.open("wb") as printed:
            # A session of its own: Ctrl-C at the terminal is for the program, which stops its servers last.
            self._server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True, cwd=out.parent,
                pass_fds=keep_open, user=user, group=user, extra_groups=None if user is None else [],
            )  # fmt: skip
        watch = ["/bin/sh", "-c", _WATCHDOG, str(self._server.pid), stop_signal.name.removeprefix("SIG")]
        try:
            self._watchdog = subprocess.Popen(watch, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        except BaseException:
            self._server.kill()
            self._server.wait()
            raise

    @property
    def pid(self) -> int:
        """The server's process number."""
        return self._server.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._server.poll()

    def wait(self, *, within_s: float) -> int | None:
        """Its exit code once it has ended by itself; None if it still runs after that time."""
        try:
            return self._server.wait(within_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, *, within_s: float) -> bool:
        """Ask it to stop and wait; kill it when it does not. True: it stopped by itself. Calling it again does nothing."""
        if self.exit_code is None:
            self._server.send_signal(self._stop_signal)
        stopped = self.wait(within_s=within_s) is not None
        self.kill()
        return stopped

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL). Calling it again does nothing."""
        self._server.kill()
        self._server.wait()
        # The watchdog is killed, not told: the number it watches may already be another process's.
        self._watchdog.kill()
        self._watchdog.communicate()


def free_port() -> int:
    """A port on which nothing listens now."""
    for port in random.sample(_PORTS, 200):
        if unusable(port) is None:
            return port
    raise EnvironmentFailure(
        f"no free port found between {_PORTS.start} and {_PORTS.stop} on {HOST}; stop some of the servers on this machine"
    )


def unusable(port: int) -> OSError | None:
    """Why a server cannot listen on the port, or None when it can."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as refused:
            return refused
    return None
