"""Names of the JVM are asked for once; a class whose jar is not there yet is asked for again."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from py4j import protocol
from py4j.java_gateway import JavaClass, JavaPackage, JVMView

from streaming.runtime import jvm_names


class Client:
    """A JVM in which only these are classes; counts what it is asked."""

    converters = None
    gateway_property = SimpleNamespace(pool=None)

    def __init__(self) -> None:
        self.classes, self.asked = {"org.apache.Known", "org.apache.functions"}, Counter[str]()

    def send_command(self, command: str) -> str:
        name = command.split("\n")[2]
        self.asked[name] += 1
        return protocol.SUCCESS_CLASS + name if name in self.classes else protocol.SUCCESS_PACKAGE


def view(client: Client) -> Any:
    gateway = SimpleNamespace(jvm=JVMView(client, jvm_name="default", id="rj"))
    jvm_names.remember(gateway)
    return gateway.jvm


def test_each_name_is_asked_for_once() -> None:
    client = Client()
    jvm = view(client)
    for _ in range(3):
        assert isinstance(jvm.org.apache.Known, JavaClass)
        assert isinstance(jvm.org.apache.functions, JavaClass)
        assert isinstance(getattr(jvm, "org.apache.functions"), JavaClass)  # as PySpark does it
        assert isinstance(jvm.org.apache.more, JavaPackage)
    assert client.asked == {"org": 1, "org.apache": 1, "org.apache.Known": 1, "org.apache.functions": 2, "org.apache.more": 1}


def test_a_class_that_comes_later_is_there_then() -> None:
    client = Client()
    jvm = view(client)
    assert isinstance(jvm.org.apache.Late, JavaPackage)
    client.classes.add("org.apache.Late")
    assert isinstance(jvm.org.apache.Late, JavaClass)
