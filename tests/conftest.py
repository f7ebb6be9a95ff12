"""Real parts for tests, each started the first time a test asks for it and stopped at the end of the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

# Tests start many JVMs and let none run long: the quick compiler alone saves a third of the time on two cores.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m")

from tests.support import order, processes, servers

_RUN = pytest.StashKey[str]()
_LEFT = pytest.StashKey[list[str]]()

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.embedded.broker import Broker


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for these, which are about other people's code and which nobody here can mend."""
    for spared in (
        "ignore:read_text is deprecated:DeprecationWarning:kafka",  # the message schemas of kafka-python
        "ignore:open_text is deprecated:DeprecationWarning",
        "ignore:unclosed <socket.*:ResourceWarning",  # py4j closes its sockets when the JVM ends, after pytest has looked
    ):
        config.addinivalue_line("filterwarnings", spared)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that two workers end at the same time."""
    items.sort(key=order.place)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Whatever a test starts from here on carries a mark. Under xdist the workers run the tests, so they are who must tidy up."""
    if _runs_tests(session.config):
        session.stash[_RUN] = processes.mark()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves a process behind has failed, whatever its tests say. A worker tells the run that started it."""
    left: list[str] = session.config.stash.setdefault(_LEFT, [])
    if mark := session.stash.get(_RUN, None):
        processes.close_spark()
        left += processes.left(mark)
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left"] = left
    elif left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker left behind."""
    node.config.stash.setdefault(_LEFT, []).extend(getattr(node, "workeroutput", {}).get("left", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(_LEFT, []):
        terminalreporter.section("processes of these tests were still running; they are ended now", red=True)
        terminalreporter.write_line("\n".join(left))


def _runs_tests(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A Spark session with the Kafka connector and Delta. Eight task slots, of which real-time mode may hold some for ever; two tasks a stage."""
    from streaming.runtime import session
    from streaming.runtime.spark import LOCAL_STATE

    folder = tmp_path_factory.mktemp("spark")
    options = {
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.driver.memory": "2g",
        "spark.default.parallelism": "2",
    } | LOCAL_STATE
    started = session.start("tests", master="local[8]", options=options, delta=True, log=folder / "spark.log")
    yield started
    started.stop()


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A Kafka broker for the whole run. A test that kills brokers starts its own."""
    from streaming.embedded.broker import running_broker
    from tests.support import job

    with running_broker() as started:
        yield started
        job.close_tails()


@pytest.fixture
def topics(broker: Broker) -> Callable[..., str]:
    """`topics(n_partitions) -> name`: a new topic with a name of its own."""

    def create(n_partitions: int = 1, *, prefix: str = "test") -> str:
        from kafka import KafkaAdminClient

        name = f"{prefix}-{uuid4().hex[:12]}"
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        try:
            admin.create_topics({name: {"num_partitions": n_partitions, "replication_factor": 1}})
        finally:
            admin.close()
        return name

    return create


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.DatabaseServer]:
    """A PostgreSQL server: `.dsn`, `.stop()`, `.start()`, `.kill()`, `.restart()`."""
    with servers.running_postgres() as started:
        yield started


@pytest.fixture(scope="session")
def redis() -> Iterator[servers.DatabaseServer]:
    """A Redis server: `.url`, `.stop()`, `.start()`, `.kill()`, `.restart()`."""
    with servers.running_redis() as started:
        yield started
