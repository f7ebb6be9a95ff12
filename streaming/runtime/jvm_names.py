"""Names of Java's classes and packages, asked of the JVM once each.

py4j asks for every part of `jvm.org.apache.spark…` each time it is written, and the JVM then looks for a class of that name through all
of Spark's 300 jars (for `org` alone a dozen times, once for each package that PySpark imported). That was a quarter of what the driver
did in our tests, and it is done for every micro-batch that talks to the JVM.
"""

from __future__ import annotations

from typing import Any

from py4j.java_gateway import JavaClass, JavaPackage, JVMView


class RememberedView(JVMView):  # type: ignore[misc]
    """`gateway.jvm` that remembers which names are classes and which are packages."""

    def __getattr__(self, name: str) -> Any:
        return _remembered(self, name, super().__getattr__(name))


class _RememberedPackage(JavaPackage):  # type: ignore[misc]
    def __getattr__(self, name: str) -> Any:
        return _remembered(self, name, super().__getattr__(name))


def remember(gateway: Any) -> None:
    """From here on `gateway.jvm` asks for each name once. Imports (`java_import`) are the JVM's own and stay."""
    view = gateway.jvm
    gateway.jvm = RememberedView(view._gateway_client, view._jvm_name, view._id)


def _remembered(owner: Any, name: str, value: Any) -> Any:
    """The value as it is kept. A class that is not there looks like a package; its jar may yet come, so it is asked for again."""
    if isinstance(value, JavaPackage):
        if name.rpartition(".")[2][:1].isupper():
            return value
        value = _RememberedPackage(value._fqn, value._gateway_client, value._jvm_id)
    elif not isinstance(value, JavaClass):
        return value
    owner.__dict__[name] = value
    return value
