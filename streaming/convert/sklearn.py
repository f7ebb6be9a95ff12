"""A fitted scikit-learn model as an ONNX model in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

from streaming.config.sections import SavedModel
from streaming.convert.converted import Converted
from streaming.convert.original import Original
from streaming.errors import ModelError
from streaming.scorers import files, signatures
from streaming.scorers.sklearn import SklearnScorer, open_scorer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: scikit-learn's trees compare and add in single precision here and there; its linear models do not.
_TOLERANCE: Final = 1e-6
#: ai.onnx.ml 3: trees with thresholds in double precision.
_OPSETS: Final = {"": 19, "ai.onnx.ml": 3}


def original(section: SavedModel, spark: SparkSession | None) -> Original:
    """The estimator of `section`, ready to be converted. ModelError when it may not be opened."""
    package = signatures.admitted(section, files.read(section.uri))
    scorer = open_scorer(package, section)
    return Original(
        convert=lambda: convert(scorer),
        score=lambda columns, converted: scorer.score(columns),
        sha256=package.sha256,
        tolerance=_TOLERANCE,
    )


def convert(scorer: SklearnScorer) -> Converted:
    """The portable form of `scorer`. ModelError, in the converter's words, when a step has none."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    from sklearn.impute import SimpleImputer

    kinds = dict(scorer.inputs())
    if scorer.size:
        initial: list[Any] = [("features", DoubleTensorType([None, scorer.size]))]
    else:
        initial = [(name, (StringTensorType if kind == "text" else DoubleTensorType)([None, 1])) for name, kind in kinds.items()]
    classifier = hasattr(scorer.estimator, "classes_")
    try:
        model = convert_sklearn(
            scorer.estimator,
            initial_types=initial,
            target_opset=_OPSETS,
            options=_options(scorer.estimator),
            custom_conversion_functions={SimpleImputer: _impute},
        )
    except (MissingConverter, MissingShapeCalculator, NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError) as refused:
        raise ModelError(f"{scorer.uri}: cannot be converted to ONNX: {(str(refused).splitlines() or [''])[0]}") from refused
    classes = [_plain(label) for label in scorer.estimator.classes_] if classifier else None
    labels = {column.name: tuple(sorted(column.known)) for column in scorer.columns if column.known}
    null = next((column.null for column in scorer.columns if column.kind == "text"), None)
    return Converted(
        model=_with_our_outputs(model, classes),
        kinds=kinds,
        sizes={"features": scorer.size} if scorer.size else {},
        types={},
        null_text="nan" if null is not None else "\ue000null",
        failures=(),
        labels=labels,
        classes=tuple(classes) if classes is not None else None,
        is_classifier=classifier,
    )


def _impute(scope: Any, operator: Any, container: Any) -> None:
    """SimpleImputer of numbers in double precision; the operator that skl2onnx would write knows only single."""
    from skl2onnx.operator_converters.common import concatenate_variables
    from skl2onnx.proto import onnx_proto

    fitted = operator.raw_operator
    if fitted.statistics_.dtype.kind not in "fiu" or fitted.add_indicator:
        raise NotImplementedError("SimpleImputer of text, or with add_indicator, has no portable form; drop it or encode the text first")
    if np.isnan(fitted.statistics_.astype(np.float64)).any():
        raise NotImplementedError("SimpleImputer met a column without any value when it was fitted, and drops it; drop the column")
    given = concatenate_variables(scope, operator.inputs, container)
    filled, gone = scope.get_unique_variable_name("filled"), scope.get_unique_variable_name("gone")
    container.add_initializer(
        filled, onnx_proto.TensorProto.DOUBLE, [1, len(fitted.statistics_)], fitted.statistics_.astype(np.float64).tolist()
    )
    if np.isnan(fitted.missing_values):
        container.add_node("IsNaN", [given], [gone], op_version=13)
    else:
        missing = scope.get_unique_variable_name("missing")
        container.add_initializer(missing, onnx_proto.TensorProto.DOUBLE, [1, 1], [float(fitted.missing_values)])
        container.add_node("Equal", [given, missing], [gone], op_version=13)
    container.add_node("Where", [gone, filled, given], [operator.outputs[0].full_name], op_version=16)


def _options(estimator: Any) -> dict[Any, Any]:
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    return {id(last): {"zipmap": False}} if hasattr(last, "predict_proba") else {}


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _with_our_outputs(model: onnx.ModelProto, classes: list[Any] | None) -> onnx.ModelProto:
    """The model with outputs `prediction` (index of the class, or the number; double (n,)) and `probability` (double)."""
    from onnx import TensorProto, helper, numpy_helper

    for each in model.opset_import:
        # LabelEncoder between any two types came with version 2; what skl2onnx writes otherwise is the same since version 1.
        if each.domain == "ai.onnx.ml" and each.version < 2:
            each.version = 2
    graph = model.graph
    first = graph.output[0]
    probability = graph.output[1].name if len(graph.output) > 1 else None
    kept = [output.name for output in graph.output]
    del graph.output[:]
    flat = numpy_helper.from_array(np.array([-1], np.int64), "streaming_flat")
    graph.initializer.append(flat)
    source = kept[0]
    if classes is not None:
        text = first.type.tensor_type.elem_type == TensorProto.STRING
        keys = {"keys_strings": [str(label) for label in classes]} if text else {"keys_int64s": [int(label) for label in classes]}
        graph.node.append(
            helper.make_node(
                "LabelEncoder",
                [source],
                ["streaming_class"],
                domain="ai.onnx.ml",
                default_float=-1.0,
                values_floats=[float(i) for i in range(len(classes))],
                **keys,
            )
        )
        source = "streaming_class"
    graph.node.append(helper.make_node("Cast", [source], ["streaming_double"], to=TensorProto.DOUBLE))
    graph.node.append(helper.make_node("Reshape", ["streaming_double", "streaming_flat"], ["prediction"]))
    graph.output.append(helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["n"]))
    if probability is not None and classes is not None:
        graph.node.append(helper.make_node("Cast", [probability], ["probability"], to=TensorProto.DOUBLE))
        graph.output.append(helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["n", len(classes)]))
    return model
