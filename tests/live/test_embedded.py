"""The embedded broker: stops, dies, comes back with its data, refuses what cannot work, and never outlives its program."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import UnknownTopicOrPartitionError

from streaming.embedded.broker import Broker, EmbeddedBroker, running_broker
from streaming.embedded.process import HOST, free_port
from streaming.errors import EnvironmentFailure


def create_topic(bootstrap_servers: str, topic: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap_servers)) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})


def send(bootstrap_servers: str, topic: str, *values: bytes) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")) as producer:
        for sent in [producer.send(topic, value) for value in values]:
            sent.get(timeout=30)


def read_all(bootstrap_servers: str, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    with closing(KafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        values: list[bytes] = []
        while consumer.position(partition) < end:
            values += [record.value for records in consumer.poll(timeout_ms=1000).values() for record in records]
        return values


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker that tests may kill."""
    broker = EmbeddedBroker(tmp_path_factory.mktemp("own broker"))
    broker.start()
    yield broker
    broker.stop()


def test_what_was_acknowledged_survives_a_stop_and_a_crash(own: EmbeddedBroker) -> None:
    create_topic(own.bootstrap_servers, "kept")
    send(own.bootstrap_servers, "kept", b"1", b"2")
    first = own.start()
    own.stop()
    assert not own.running
    own.start()
    send(own.bootstrap_servers, "kept", b"3")
    own.kill()
    assert not own.running
    again = own.start()
    assert read_all(own.bootstrap_servers, "kept") == [b"1", b"2", b"3"]
    assert again.bootstrap_servers == first.bootstrap_servers
    assert again.pid != first.pid


def test_start_twice_is_one_broker(own: EmbeddedBroker) -> None:
    assert own.start() == own.start()


def test_a_topic_that_nobody_created_stays_missing(own: EmbeddedBroker) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=own.bootstrap_servers)) as admin:
        described = admin.describe_topics(["never-created"])
    assert [UnknownTopicOrPartitionError.errno] == [topic["error_code"] for topic in described]


def test_only_the_loopback_address_listens(own: EmbeddedBroker) -> None:
    listening = {c.laddr.ip for c in psutil.Process(own.start().pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert listening in ({HOST}, {f"::ffff:{HOST}"})


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind((HOST, free_port()))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentFailure, match=rf"port {port} on {HOST} cannot be used .*choose another port"):
            EmbeddedBroker(tmp_path, port=port).start()


def test_a_second_broker_on_the_same_folder_is_refused_and_harms_nothing(own: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.embedded.broker._FOLDER_FREE_WITHIN_S", 0.2)
    first = own.start()
    second = EmbeddedBroker(own.data)
    with pytest.raises(EnvironmentFailure, match=r"another Kafka broker is running in this folder; stop it, or"):
        second.start()
    assert not second.running
    assert own.start() == first


def test_a_broker_that_gives_up_says_why(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, heap_mb=256)
    broker.start()
    broker.stop()
    (tmp_path / "topics" / "meta.properties").write_text("version=1\nnode.id=2\ncluster.id=another\n")
    with pytest.raises(EnvironmentFailure, match=r"gave up with exit code 1: .*node.id.* its log is .*broker.log"):
        broker.start()
    assert not broker.running


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match=r"file/data: the broker's data folder cannot be written"):
        EmbeddedBroker(tmp_path / "file" / "data").start()


def test_nothing_is_left_of_a_temporary_broker() -> None:
    with running_broker() as broker:
        assert broker.data.is_dir()
        assert psutil.pid_exists(broker.pid)
    assert not broker.data.exists()
    assert not psutil.pid_exists(broker.pid)


def test_the_broker_dies_with_a_program_that_was_killed(tmp_path: Path) -> None:
    program = "import sys, time; from pathlib import Path; from streaming.embedded.broker import EmbeddedBroker\n"
    program += f"print(EmbeddedBroker(Path({str(tmp_path)!r})).start().pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        assert broker.is_running()
        os.kill(parent.pid, signal.SIGKILL)
    gone_by = time.monotonic() + 30
    while broker.is_running() and broker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < gone_by:
        time.sleep(0.1)
    assert not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE


def test_topics_have_names_of_their_own(broker: Broker, topics: Callable[..., str]) -> None:
    first, second = topics(1), topics(1)
    send(broker.bootstrap_servers, first, b"a")
    assert read_all(broker.bootstrap_servers, first) == [b"a"]
    assert read_all(broker.bootstrap_servers, second) == []
