"""Folders on hdfs:, s3a: and the like, through Hadoop."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from streaming.runtime.files import Folder


@dataclass(frozen=True)
class HadoopFolder:
    """A folder that Hadoop's FileContext reaches; its rename without overwrite is what Spark's own checkpoints rely on."""

    uri: str
    spark: SparkSession

    def names(self) -> list[str]:
        context, path = self._at("")
        if not context.util().exists(path):
            return []
        listed = (status for status in context.util().listStatus(path) if status.isFile())
        return sorted(name for status in listed if not (name := str(status.getPath().getName())).startswith("."))

    def read(self, name: str) -> bytes | None:
        context, path = self._at(name)
        if not context.util().exists(path):
            return None
        stream = context.open(path)
        try:
            return bytes(stream.readAllBytes())
        finally:
            stream.close()

    def create(self, name: str, data: bytes) -> bool:
        context, path = self._at(name)
        if context.util().exists(path):
            return False
        return self._rename(self._write(data), path, "NONE")

    def replace(self, name: str, data: bytes) -> None:
        self._rename(self._write(data), self._at(name)[1], "OVERWRITE")

    def delete(self, name: str) -> None:
        context, path = self._at(name)
        context.delete(path, False)

    def below(self, name: str) -> Folder:
        return HadoopFolder(f"{self.uri}/{name}", self.spark)

    def _at(self, name: str) -> tuple[Any, Any]:
        jvm: Any = self.spark._jvm
        path = jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{name}" if name else self.uri)
        return jvm.org.apache.hadoop.fs.FileContext.getFileContext(path.toUri(), self.spark._jsc.hadoopConfiguration()), path

    def _write(self, data: bytes) -> Any:
        context, path = self._at(f".{uuid.uuid4().hex}")
        jvm: Any = self.spark._jvm
        flags = jvm.java.util.EnumSet.of(jvm.org.apache.hadoop.fs.CreateFlag.CREATE)
        gateway: Any = self.spark.sparkContext._gateway
        options = gateway.new_array(jvm.org.apache.hadoop.fs.Options.CreateOpts, 1)
        options[0] = jvm.org.apache.hadoop.fs.Options.CreateOpts.createParent()
        stream = context.create(path, flags, options)
        try:
            stream.write(bytearray(data))
        finally:
            stream.close()
        return path

    def _rename(self, source: Any, target: Any, how: str) -> bool:
        from py4j.protocol import Py4JJavaError

        jvm: Any = self.spark._jvm
        context, _ = self._at("")
        gateway: Any = self.spark.sparkContext._gateway
        options = gateway.new_array(jvm.org.apache.hadoop.fs.Options.Rename, 1)
        options[0] = getattr(jvm.org.apache.hadoop.fs.Options.Rename, how)
        try:
            context.rename(source, target, options)
        except Py4JJavaError as refused:
            context.delete(source, False)
            if refused.java_exception.getClass().getSimpleName() == "FileAlreadyExistsException":
                return False
            raise
        return True
