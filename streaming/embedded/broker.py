"""A real Kafka broker on this machine, from pinned jars: one node, loopback only, for development and tests."""

from __future__ import annotations

import base64
import fcntl
import logging
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streaming.embedded.process import HOST, ServerProcess, free_port, unusable
from streaming.errors import EnvironmentFailure
from streaming.runtime import classes, jars, java

log = logging.getLogger(__name__)

#: Up in 3-5 s on a quiet machine; a busy two-core one may take ten times that.
_READY_WITHIN_S: Final = 90.0
_STOP_WITHIN_S: Final = 15.0
_FOLDER_FREE_WITHIN_S: Final = 12.0


@dataclass(frozen=True)
class Broker:
    """A broker that answers."""

    bootstrap_servers: str
    pid: int
    data: Path


class EmbeddedBroker:
    """One broker over one data folder and one port: start, stop, kill and start again, with nothing lost between.

    `data` is created and formatted when new; what is in it stays when the broker stops. `port` None: a free one, the
    same one for the life of this object. It ends with this process, however that ends.
    """

    def __init__(self, data: Path, *, port: int | None = None, heap_mb: int = 512) -> None:
        self.data = data.absolute()
        self.port = port if port is not None else free_port()
        self.heap_mb = heap_mb
        self._process: ServerProcess | None = None
        self._log_began = 0

    @property
    def bootstrap_servers(self) -> str:
        """The address for Kafka clients."""
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """True while the broker's process lives."""
        return self._process is not None and self._process.exit_code is None

    def start(self) -> Broker:
        """Start the broker and return once it answers. Does nothing more when it already runs.

        Raises EnvironmentFailure: Java or the jars cannot be had, the port is taken, or the broker gave up.
        """
        if self._process is not None and self.running:
            return Broker(self.bootstrap_servers, self._process.pid, self.data)
        self.kill()
        began = time.monotonic()
        with self._folder_of_its_own() as held:
            if (refused := unusable(self.port)) is not None:
                raise EnvironmentFailure(
                    f"port {self.port} on {HOST} cannot be used for the Kafka broker: {refused.strerror}; "
                    "choose another port, or stop the program that listens there"
                )
            settings = self._write_settings()
            self._format(settings)
            self._process = self._run("kafka.Kafka", str(settings), keep_open=(held,), jvm=classes.options("broker"))
        try:
            self._wait_until_it_answers(self._process, began + _READY_WITHIN_S)
        except BaseException:
            self.kill()
            raise
        log.info("broker=%s pid=%d data=%s started_s=%.1f", self.bootstrap_servers, self._process.pid, self.data, time.monotonic() - began)
        return Broker(self.bootstrap_servers, self._process.pid, self.data)

    def stop(self, *, within_s: float = _STOP_WITHIN_S) -> bool:
        """Ask the broker to stop and wait; kill it if it does not. True: it is not running, and did not have to be killed."""
        stopped = self._process is None or self._process.stop(within_s=within_s)
        if not stopped:
            log.warning("broker=%s did not stop within %.0f s: killed", self.bootstrap_servers, within_s)
        self._process = None
        return stopped

    def kill(self) -> None:
        """End the broker at once, as a crash would (SIGKILL). Does nothing when it is not running."""
        if self._process is not None:
            self._process.kill()
        self._process = None

    @contextmanager
    def _folder_of_its_own(self) -> Iterator[int]:
        """The descriptor of a lock that ends with the broker that inherits it.

        Kafka has locks too, but a second broker on one folder has done its damage (to the first!) before it sees them.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            file = (self.data / "in-use").open("a")
        except OSError as refused:
            raise EnvironmentFailure(
                f"{self.data}: the broker's data folder cannot be written: {refused}; choose another folder"
            ) from refused
        # The broker of a program that was killed is on its way out: worth waiting for.
        deadline = time.monotonic() + _FOLDER_FREE_WITHIN_S
        with file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as held:
                    if time.monotonic() > deadline:
                        raise EnvironmentFailure(
                            f"{self.data}: another Kafka broker is running in this folder; stop it, or choose another folder"
                        ) from held
                    time.sleep(0.1)
            yield file.fileno()

    def _run(self, main_class: str, *arguments: str, keep_open: Sequence[int] = (), jvm: Sequence[str] = ()) -> ServerProcess:
        classpath = os.pathsep.join(str(jar) for jar in jars.resolve("broker"))
        logging_to = [
            f"-Dlog4j2.configurationFile=file:{jars.conf_file('log4j2.properties')}",
            f"-Dstreaming.log={self.data / 'broker.log'}",
        ]
        options = [
            f"-Xmx{self.heap_mb}m",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dlog4j2.disableJmx=true",
            *jvm,
        ]
        command = [str(java.java_command()), *options, *logging_to, "-cp", classpath, main_class, *arguments]
        self._log_began = path.stat().st_size if (path := self.data / "broker.log").exists() else 0
        return ServerProcess(command, out=self.data / "broker.out", keep_open=keep_open)

    def _write_settings(self) -> Path:
        settings = {"listeners": f"BROKER://{HOST}:{self.port},CONTROLLER://{HOST}:{(controller := free_port())}"}
        settings |= {"controller.quorum.voters": f"1@{HOST}:{controller}", "log.dirs": str(self.data / "topics")} | _SETTINGS
        path = self.data / "server.properties"
        path.write_text("".join(f"{key}={_escaped(value)}\n" for key, value in settings.items()), encoding="utf-8")
        return path

    def _format(self, settings: Path) -> None:
        done = self.data / "formatted"
        if done.exists():
            return
        # A first byte of zero: an id that begins with "-" would be read as an option.
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        # --ignore-formatted: a run that died between formatting and the line after may simply come here again.
        tool = self._run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings), "--ignore-formatted")
        try:
            code = tool.wait(within_s=_READY_WITHIN_S)
        finally:
            tool.kill()
        if code != 0:
            raise EnvironmentFailure(
                f"{self.data}: Kafka cannot format this folder (exit code {code}): {self._last_words()}; choose another folder"
            )
        done.touch()

    def _wait_until_it_answers(self, process: ServerProcess, deadline: float) -> None:
        while not _answers(self.port):
            if (code := process.exit_code) is not None:
                raise EnvironmentFailure(
                    f"the Kafka broker at {self.bootstrap_servers} gave up with exit code {code}: {self._last_words()}; "
                    f"its log is {self.data / 'broker.log'}; another folder or port may help"
                )
            if time.monotonic() > deadline:
                raise EnvironmentFailure(
                    f"the Kafka broker at {self.bootstrap_servers} does not answer after {_READY_WITHIN_S:.0f} s: {self._last_words()}; "
                    f"its log is {self.data / 'broker.log'}; is the machine out of memory or processor time?"
                )
            time.sleep(0.1)

    def _last_words(self) -> str:
        """The last lines that speak of an error, or simply the last lines."""
        lines: list[str] = []
        for name, begin in (("broker.out", 0), ("broker.log", self._log_began)):
            if (path := self.data / name).exists():
                said = path.read_bytes()[begin:].decode(errors="replace")
                lines += [line.strip() for line in said.splitlines() if line.strip()]
        telling = [
            line for line in lines if any(sign in line for sign in ("ERROR", "FATAL", "Exception", "Error:")) and not line.startswith("at ")
        ]
        return " | ".join((telling or lines)[-4:])[:900] or "its log is empty"


@contextmanager
def running_broker(*, data: Path | None = None, port: int | None = None, heap_mb: int = 512) -> Iterator[Broker]:
    """A broker for the length of a `with`. `data` None: a folder that is gone afterwards; otherwise what is in it stays."""
    folder = data or Path(tempfile.mkdtemp(prefix="streaming-broker-"))
    broker = EmbeddedBroker(folder, port=port, heap_mb=heap_mb)
    try:
        yield broker.start()
    finally:
        broker.stop()
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)


#: One node is its own controller; everything that Kafka replicates has one copy; few threads; nothing waits for a second member.
_SETTINGS: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "BROKER",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",
    # After a crash the controller waits this long (by default 9 s) before it believes that the old broker is gone.
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "500",
}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\")


def _answers(port: int) -> bool:
    """True when a Kafka client is told of a live broker. The plain connection first: clients complain aloud about refused ones."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        socket.create_connection((HOST, port), timeout=1).close()
        admin = KafkaAdminClient(bootstrap_servers=f"{HOST}:{port}", client_id="streaming-ready", request_timeout_ms=5_000)
    except (OSError, KafkaError):
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except (OSError, KafkaError):
        return False
    finally:
        admin.close()
