"""Spark ML's trees, forests and boosted trees as one ONNX TreeEnsemble that compares and adds in double precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from streaming.convert.spark.graph import CannotConvert, Graph, Value
from streaming.convert.spark.linear import Predict, Predicted, features_of, label
from streaming.models.spark.metadata import Stage

#: Modes of the operator TreeEnsemble (ai.onnx.ml 5): go left when x <= split, or when x is one of a set.
_AT_MOST: Final = 0
_MEMBER: Final = 6


@dataclass(frozen=True)
class Node:
    """A node of a tree as Spark saves it. `left` is -1 in a leaf."""

    prediction: float
    stats: NDArray[np.float64]
    left: int
    right: int
    feature: int
    #: The threshold, or the categories that go left.
    split: Sequence[float]
    #: -1: a numeric split.
    categories: int


Tree = dict[int, Node]
#: By the number of a leaf, what it says.
Values = dict[int, float]


@dataclass
class Ensemble:
    """The lists of attributes of a TreeEnsemble."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    true: list[tuple[int, int]] = field(default_factory=list)
    false: list[tuple[int, int]] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


def read(stage: Stage) -> list[Tree]:
    """The nodes of every tree, from the folder of the saved stage, `stage.folder`: asking the JVM for each node takes minutes."""
    saved = SparkSession.active().read.parquet(f"{stage.folder}/data")
    single = "treeID" not in saved.columns
    flat = saved.select(F.lit(0).alias("treeID"), F.struct("*").alias("nodeData")) if single else saved
    trees: dict[int, Tree] = {}
    for row in flat.collect():
        node, split = row["nodeData"], row["nodeData"]["split"]
        trees.setdefault(int(row["treeID"]), {})[int(node["id"])] = Node(
            prediction=float(node["prediction"]),
            stats=np.array(node["impurityStats"], dtype=np.float64),
            left=int(node["leftChild"]),
            right=int(node["rightChild"]),
            feature=int(split["featureIndex"]),
            split=[float(value) for value in split["leftCategoriesOrThreshold"]],
            categories=int(split["numCategories"]),
        )
    if sorted(trees) != list(range(len(trees))) or not trees:
        raise CannotConvert(f"its saved trees are numbered {sorted(trees)}")
    return [trees[i] for i in range(len(trees))]


def ensemble(trees: Sequence[Tree], values: Sequence[Values]) -> Ensemble:
    """The trees as lists; `values`: what each leaf adds to the sum."""
    made = Ensemble()
    for tree, of_leaf in zip(trees, values, strict=True):
        made.roots.append(len(made.features))
        _add(made, tree, of_leaf)
    return made


def _add(made: Ensemble, tree: Tree, of_leaf: Values) -> None:
    """Depth first, the left side first."""
    pending: list[tuple[int, int, bool]] = [(0, -1, True)]
    while pending:
        number, parent, side = pending.pop()
        node = tree[number]
        if node.left < 0 and parent >= 0:
            _attach(made, parent, side, (_leaf(made, of_leaf[number]), 1))
            continue
        place = len(made.features)
        if parent >= 0:
            _attach(made, parent, side, (place, 0))
        if node.left < 0:
            # A tree of one leaf: a question whose answer does not matter.
            _question(made, 0, _AT_MOST, 0.0)
            made.true[-1] = made.false[-1] = (_leaf(made, of_leaf[number]), 1)
            continue
        yes, no = node.left, node.right
        if node.categories < 0:
            _question(made, node.feature, _AT_MOST, node.split[0])
        else:
            chosen, yes, no = _categories(node)
            _question(made, node.feature, _MEMBER, 0.0)
            made.members += [*chosen, np.nan]
        pending += [(no, place, False), (yes, place, True)]


def _categories(node: Node) -> tuple[list[float], int, int]:
    """The set that Spark asks for, and where a row goes that is in it and that is not: it keeps the smaller half.

    A category that training never saw is in neither half, so which of them is asked for decides.
    """
    if len(node.split) <= node.categories // 2:
        return sorted(node.split), node.left, node.right
    others = sorted(set(map(float, range(node.categories))) - set(node.split))
    return others, node.right, node.left


def _question(made: Ensemble, feature: int, mode: int, split: float) -> None:
    made.features.append(feature)
    made.modes.append(mode)
    made.splits.append(split)
    made.true.append((0, 0))
    made.false.append((0, 0))


def _attach(made: Ensemble, parent: int, side: bool, child: tuple[int, int]) -> None:
    (made.true if side else made.false)[parent] = child


def _leaf(made: Ensemble, value: float) -> int:
    made.weights.append(value)
    return len(made.weights) - 1


def _node(graph: Graph, features: str, made: Ensemble) -> str:
    return graph.add(
        "TreeEnsemble",
        features,
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=1,
        post_transform=0,
        tree_roots=made.roots,
        nodes_featureids=made.features,
        nodes_modes=numpy_helper.from_array(np.array(made.modes, dtype=np.uint8)),
        nodes_splits=numpy_helper.from_array(np.array(made.splits, dtype=np.float64)),
        nodes_truenodeids=[place for place, _ in made.true],
        nodes_trueleafs=[leaf for _, leaf in made.true],
        nodes_falsenodeids=[place for place, _ in made.false],
        nodes_falseleafs=[leaf for _, leaf in made.false],
        leaf_targetids=[0] * len(made.weights),
        leaf_weights=numpy_helper.from_array(np.array(made.weights, dtype=np.float64)),
        **({"membership_values": numpy_helper.from_array(np.array(made.members, dtype=np.float64))} if made.members else {}),
    )


def _sum(graph: Graph, features: str, trees: Sequence[Tree], values: Sequence[Values]) -> str:
    """For each row the sum over the trees of what its leaf says, (n, 1)."""
    return _node(graph, features, ensemble(trees, values))


def _predictions(trees: Sequence[Tree], weights: Sequence[float]) -> list[Values]:
    return [{number: node.prediction * weight for number, node in tree.items()} for tree, weight in zip(trees, weights, strict=True)]


def classifier(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """A tree: the class counts of the leaf. A forest: the sum over the trees of the leaf's class shares."""
    features = features_of(graph, stage, fitted.numFeatures)
    trees = read(stage)
    forest = stage.name.startswith("RandomForest")
    said = [{number: _shares(node.stats) if forest else node.stats for number, node in tree.items()} for tree in trees]
    classes = int(fitted.numClasses)
    # A leaf of the operator speaks for one class only, so there is an ensemble for each class.
    columns = [
        _sum(graph, features.tensor, trees, [{n: float(stats[c]) for n, stats in of.items()} for of in said]) for c in range(classes)
    ]
    raw = graph.add("Concat", *columns, axis=1)
    total = graph.add("ReduceSum", raw, graph.const([1], np.int64), keepdims=1)
    probability = Value(graph.add("Div", raw, total), classes)
    return Predicted(label(graph, fitted, raw, probability), probability, features)


def _shares(stats: NDArray[np.float64]) -> NDArray[np.float64]:
    total = stats.sum()
    return stats / total if total != 0.0 else stats * 0.0


def regressor(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """The mean of the trees."""
    features = features_of(graph, stage, fitted.numFeatures)
    trees = read(stage)
    total = _sum(graph, features.tensor, trees, _predictions(trees, [1.0] * len(trees)))
    return Predicted(graph.add("Div", total, graph.const([[float(len(trees))]])), None, features)


def boosted_regressor(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """The weighted sum of the trees."""
    features = features_of(graph, stage, fitted.numFeatures)
    trees = read(stage)
    return Predicted(_sum(graph, features.tensor, trees, _predictions(trees, fitted.treeWeights)), None, features)


def boosted_classifier(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """P(1) = sigmoid(2 * margin), where the margin is the weighted sum of the trees."""
    features = features_of(graph, stage, fitted.numFeatures)
    trees = read(stage)
    margin = _sum(graph, features.tensor, trees, _predictions(trees, fitted.treeWeights))
    raw = graph.add("Concat", graph.add("Neg", margin), margin, axis=1)
    probability = Value(graph.add("Sigmoid", graph.add("Mul", raw, graph.const([[2.0]]))), 2)
    return Predicted(label(graph, fitted, raw, probability), probability, features)


TREES: Final[Mapping[str, Predict]] = {
    "DecisionTreeClassificationModel": classifier,
    "RandomForestClassificationModel": classifier,
    "GBTClassificationModel": boosted_classifier,
    "DecisionTreeRegressionModel": regressor,
    "RandomForestRegressionModel": regressor,
    "GBTRegressionModel": boosted_regressor,
}
