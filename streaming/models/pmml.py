"""PMML documents, evaluated by PMML4S inside the JVM: one function call in a projection, so real-time mode takes them.

PMML4S has no Spark function, but its model maps JSON text to JSON text, and is Serializable. Catalyst can call a method
of an object: that is how Spark itself calls encoders.

    Project [.., fromJson(answer)]
    +- Project [.., TryEval(model.predict(to_json(inputs))) AS answer]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn
from pyspark.sql.types import ArrayType, DoubleType, StringType, StructField, StructType

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import python
from streaming.models.base import OUTPUTS
from streaming.models.columns import check, quoted
from streaming.scorers import signatures
from streaming.scorers.pmml import Description, describe, document, jars

_CLASS: Final = "org.pmml4s.model.Model"
#: What PMML4S needs beside what Spark has.
_JARS: Final = ("pmml4s_2.13-*.jar", "spray-json_2.13-*.jar")
_ANSWER: Final = "__streaming_answer"


@dataclass(frozen=True)
class PmmlModel:
    """A PMML document on a stream. Made by :func:`load`."""

    uri: str
    spark: SparkSession = field(repr=False)
    text: str = field(repr=False)
    description: Description
    #: Sha256 of the file.
    fingerprint: str
    runs_in_jvm: bool = True
    why_not_jvm: Sequence[str] = ()

    def inputs(self) -> StructType:
        """The active fields of the mining schema."""
        return python.accepted(self.description.kinds())

    def transform(self, events: DataFrame) -> DataFrame:
        """Score each row, see :class:`streaming.models.base.Model`. Null and NaN are PMML's missing values."""
        actual = check(self.uri, self.inputs(), events.schema)
        kinds = self.description.kinds()
        read = {name: python.readable(kinds[name], events.schema[actual[python.in_event(name).lower()]]) for name in kinds}
        kept = [quoted(name) for name in events.columns]
        sent = F.to_json(F.array(F.struct(*(self._sent(name, value).alias(name) for name, value in read.items()))))
        # A model that has scored here can no longer be sent to executors, and an optimizer may score: one for each plan.
        answer = _call(self.spark, _parsed(self.spark, self.uri, self.text), sent)
        rows = events.select(*kept, F.from_json(answer, self._answer_type())[0].alias(_ANSWER))
        outputs = self._outputs(read)
        return rows.select(*kept, *(outputs[name].alias(name) for name in OUTPUTS))

    def _sent(self, name: str, value: Column) -> Column:
        """The value as the evaluator wants it; null is left out of the JSON."""
        kind = self.description.types[name]
        if kind == "text":
            return value
        finite = F.when(~F.isnan(value) & (F.abs(value) < float("inf")), value)
        if kind == "boolean":
            return finite != 0
        return finite if kind == "double" else F.when(F.floor(finite) == finite, finite).try_cast("bigint")

    def _answer_type(self) -> ArrayType:
        about = self.description
        fields = [StructField(about.predicted, StringType()), *(StructField(name, DoubleType()) for name in about.probabilities)]
        return ArrayType(StructType(fields))

    def _outputs(self, read: dict[str, Column]) -> dict[str, Column]:
        about, answer = self.description, F.col(_ANSWER)
        said = answer.getField(about.predicted)
        # The index is 0 for a label that is none of the classes; a null label gives null.
        index = F.array_position(F.array(*map(F.lit, about.classes)), said) - 1 if about.classes else None
        number = said.try_cast("double") if index is None else F.when(index >= 0, index.cast("double"))
        chances = F.array(*(answer.getField(name) for name in about.probabilities))
        infinite = [F.abs(read[name]) == float("inf") for name, kind in about.types.items() if kind != "text"]
        good = ~F.isnan(number) & (F.abs(number) < float("inf"))
        for bad in infinite:
            good = good & ~F.coalesce(bad, F.lit(False))
        if about.probabilities:
            good = good & F.forall(chances, lambda p: p.isNotNull() & ~F.isnan(p))
        good = F.coalesce(good, F.lit(False))
        empty = F.lit(None).cast("array<double>")
        return {
            "prediction": F.when(good, number),
            "probability": F.when(good, chances) if about.probabilities else empty,
            "features": empty,
            "error": F.when(~good, self._why(read)),
        }

    def _why(self, read: dict[str, Column]) -> Column:
        """Which columns are odd; never their values."""
        odd = []
        for name, value in read.items():
            missing = value.isNull()
            if self.description.types[name] != "text":
                missing = missing | F.isnan(value)
                odd.append(F.when(F.abs(value) == float("inf"), F.lit(f"{name} is infinite")))
            odd.append(F.when(missing, F.lit(f"{name} is null or NaN")))
        said = F.concat_ws("; ", *odd)
        return F.concat(F.lit(f"{self.description.element}: "), F.when(said != "", said).otherwise("gives no prediction for these values"))


def load(section: SavedModel, spark: SparkSession) -> PmmlModel:
    """The document at `section.uri`, checked and read. ModelError when it is missing, tampered with or broken."""
    package = signatures.admitted(section, python.fetch(spark, section.uri))
    text = document(package)
    return PmmlModel(section.uri, spark, text, describe(section.uri, _parsed(spark, section.uri, text)), package.sha256)


def _parsed(spark: SparkSession, uri: str, text: str) -> Any:
    """PMML4S's model of the document, a Java object."""
    jvm, gateway = _jvm(spark), _gateway(spark)
    kinds, values = gateway.new_array(jvm.java.lang.Class, 1), gateway.new_array(jvm.java.lang.Object, 1)
    kinds[0], values[0] = jvm.java.lang.Class.forName("java.lang.String"), text
    try:
        # By reflection: the class is perhaps not on the class path that the gateway knows.
        return _model_class(spark).getMethod("fromString", kinds).invoke(None, values).setSupplementOutput(True)
    except Py4JJavaError as refused:
        cause = refused.java_exception.getCause() or refused.java_exception
        raise ModelError(f"{uri}: PMML4S cannot read it: {str(cause).splitlines()[0]}; save the model again") from refused


def _model_class(spark: SparkSession) -> Any:
    """PMML4S's class: from the class path, or from the jars of the Python package, which executors get too."""
    session: Any = spark._jsparkSession
    loader = session.sharedState().jarClassLoader()
    try:
        return loader.loadClass(_CLASS)
    except Py4JJavaError:
        pass
    for jar in jars(_JARS):
        session.sessionState().resourceLoader().addJar(str(jar))
    return loader.loadClass(_CLASS)


def _call(spark: SparkSession, model: Any, sent: Column) -> Column:
    """`model.predict(sent)`, text to text; null where it throws."""
    jvm: Any = _jvm(spark)
    catalyst, utils = jvm.org.apache.spark.sql.catalyst.expressions, jvm.org.apache.spark.sql.classic.ExpressionUtils
    kind = jvm.org.apache.spark.sql.types.ObjectType
    java_text, none = kind(jvm.java.lang.Class.forName("java.lang.String")), jvm.PythonUtils.toSeq([])

    def invoke(target: Any, method: str, arguments: list[Any]) -> Any:
        return catalyst.objects.Invoke(target, method, java_text, jvm.PythonUtils.toSeq(arguments), none, True, True, True)

    internal: Any = sent
    target = catalyst.Literal(model, kind(_model_class(spark)))
    said = invoke(target, "predict", [invoke(utils.expression(internal._jc), "toString", [])])
    text = getattr(getattr(jvm.org.apache.spark.sql.types, "StringType$"), "MODULE$")
    utf8 = jvm.java.lang.Class.forName("org.apache.spark.unsafe.types.UTF8String")
    back = catalyst.objects.StaticInvoke(
        utf8, text, "fromString", jvm.PythonUtils.toSeq([said]), none, True, True, True, jvm.scala.Option.empty()
    )
    return ClassicColumn(utils.column(catalyst.TryEval(back)))


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm


def _gateway(spark: SparkSession) -> Any:
    return spark.sparkContext._gateway
