"""Spark ML's stages from vector to vector: slices, norms, projections, products of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import comb, prod
from typing import Any, Final

from streaming.models.spark.fold.features import Feature, scaler
from streaming.models.spark.fold.made import called
from streaming.models.spark.fold.state import CannotFold, Fold
from streaming.models.spark.fold.values import Choice, Number, Packed, Vector, elements
from streaming.models.spark.metadata import Stage

#: More products than these are left to Spark ML.
_PRODUCTS: Final = 2_000


def slicer(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Some elements, by their places."""
    if stage.params.get("names"):
        raise CannotFold("it picks elements by name")
    _pick(fold, stage, list(fitted.getIndices()))


def selector(fold: Fold, stage: Stage, fitted: Any) -> None:
    """The elements that were selected on the training rows."""
    _pick(fold, stage, sorted(fitted.selectedFeatures))


def _pick(fold: Fold, stage: Stage, places: Sequence[int]) -> None:
    given = fold.vector(_input(stage), None, stage).elements()
    if places and max(places) >= len(given):
        raise CannotFold(f"it picks element {max(places)} of {len(given)}")
    fold.write(stage.outputs[0], Vector(tuple(given[place] for place in places)))


def _input(stage: Stage) -> str:
    return str(stage.params.get("inputCol") or stage.params["featuresCol"])


def size_hint(fold: Fold, stage: Stage, fitted: Any) -> None:
    """The same vector; a row with another size fails."""
    fold.write(stage.inputs[0], fold.vector(stage.inputs[0], int(fitted.getSize()), stage))


def same(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Stages that change names and attributes only."""


def idf(fold: Fold, stage: Stage, fitted: Any) -> None:
    """x * inverse document frequency."""
    scaler(fold, stage, None, fitted.idf.toArray())


def pca(fold: Fold, stage: Stage, fitted: Any) -> None:
    """The projection on the principal components."""
    components = fitted._java_obj.pc()
    _map(fold, stage, components.transpose(), "multiply", width=components.numRows(), gives=lambda _: components.numCols())


def normalizer(fold: Fold, stage: Stage, fitted: Any) -> None:
    """x / norm."""
    _map(fold, stage, fitted._java_obj.createTransformFunc(), "apply", width=None, gives=lambda size: size)


def polynomial_expansion(fold: Fold, stage: Stage, fitted: Any) -> None:
    """All products of elements up to a degree."""
    degree = int(fitted.getDegree())
    _map(fold, stage, fitted._java_obj.createTransformFunc(), "apply", width=None, gives=lambda size: comb(size + degree, degree) - 1)


def _map(fold: Fold, stage: Stage, java: Any, method: str, *, width: int | None, gives: Callable[[int], int]) -> None:
    vector = fold.vector(_input(stage), width, stage)
    array = fold.attempt(called(java, method, fold.let(vector.array()), gives="vector"), stage)
    fold.write(stage.outputs[0], Vector((Packed(array, gives(len(vector)), nan=True),)))


def interaction(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Every product of one element of each column; a label's index counts as its one-hot vector."""
    columns = [_factors(fold, stage, name) for name in stage.inputs]
    if prod(map(len, columns)) > _PRODUCTS:
        raise CannotFold(f"it has more than {_PRODUCTS} products")
    fold.write(stage.outputs[0], Vector(tuple(_product(factors) for factors in product(*columns))))


#: One factor of a product: when it is not zero ("" for always), and what it then is ("" for one).
_Factor = tuple[str, str]


def _factors(fold: Fold, stage: Stage, name: str) -> list[_Factor]:
    value = fold.any(name)
    if isinstance(value, Number):
        if value.nullable:
            fold.fail(f"{value.sql} IS NULL", f"{stage.flow()}: {name} is null")
        return _levels(value, name) if value.nominal > 1 else [("", value.sql)]
    factors = list[_Factor]()
    for block in fold.vector(name, None, stage).blocks:
        if isinstance(block, Choice):
            factors += [_chosen(block, at) for at in range(len(block))]
        elif isinstance(block, Number) and block.nominal > 1:
            raise CannotFold(f"{name} has an index among its elements")
        else:
            factors += [("", each.sql) for each in elements(block)]
    return factors


def _levels(value: Number, name: str) -> list[_Factor]:
    if not value.index:
        raise CannotFold(f"{name} is an index that no StringIndexer made")
    return [(f"{value.index} = {level}", "") for level in range(value.nominal)]


def _chosen(block: Choice, at: int) -> _Factor:
    if block.off[at] == 0.0 and block.on[at] == 1.0:
        return f"{block.index} = {at}", ""
    return "", block.element(at).sql


def _product(factors: Sequence[_Factor]) -> Number:
    """As Spark ML multiplies: from the last column to the first."""
    values = [sql for _, sql in reversed(factors) if sql]
    conditions = [condition for condition, _ in factors if condition]
    value = f"({' * '.join(values)})" if values else "1D"
    return Number(f"IF({' AND '.join(conditions)}, {value}, 0D)" if conditions else value, nan=bool(values))


VECTORS: Final[Mapping[str, Feature]] = {
    "VectorSlicer": slicer,
    "VectorSizeHint": size_hint,
    "VectorAttributeRewriter": same,
    "ColumnPruner": same,
    "ChiSqSelectorModel": selector,
    "UnivariateFeatureSelectorModel": selector,
    "VarianceThresholdSelectorModel": selector,
    "IDFModel": idf,
    "PCAModel": pca,
    "Normalizer": normalizer,
    "DCT": normalizer,
    "PolynomialExpansion": polynomial_expansion,
    "Interaction": interaction,
}
