"""PMML documents without Spark: the answers of the document, and documents that are refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from streaming.errors import ModelError
from streaming.scorers import files
from streaming.scorers.base import Scorer
from streaming.scorers.pmml import open_pmml

DOCUMENT = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/>
<DataDictionary>
  <DataField name="contract" optype="categorical" dataType="string"/>
  <DataField name="tenure" optype="continuous" dataType="integer"/>
  <DataField name="churn" optype="categorical" dataType="string"><Value value="no"/><Value value="yes"/></DataField>
</DataDictionary>
<TreeModel functionName="classification" missingValueStrategy="nullPrediction">
  <MiningSchema><MiningField name="churn" usageType="target"/><MiningField name="contract"/><MiningField name="tenure"/></MiningSchema>
  <Node><True/>
    <Node score="yes"><CompoundPredicate booleanOperator="and"><SimplePredicate field="contract" operator="equal" value="month"/>
      <SimplePredicate field="tenure" operator="lessThan" value="24"/></CompoundPredicate>
      <ScoreDistribution value="no" recordCount="1"/><ScoreDistribution value="yes" recordCount="3"/></Node>
    <Node score="no"><SimplePredicate field="tenure" operator="greaterOrEqual" value="24"/>
      <ScoreDistribution value="no" recordCount="9"/><ScoreDistribution value="yes" recordCount="1"/></Node>
  </Node>
</TreeModel></PMML>"""


def opened(path: Path, text: str) -> Scorer:
    (path / "m.pmml").write_text(text)
    return open_pmml(files.read(str(path / "m.pmml")))


def test_answers_and_errors(tmp_path: Path) -> None:
    scorer = opened(tmp_path, DOCUMENT)
    assert isinstance(scorer, Scorer)
    assert scorer.inputs() == {"contract": "text", "tenure": "number"}
    contract = np.array(["month", "two", "month", None, "two"], dtype=object)
    got = scorer.score({"contract": contract, "tenure": np.array([3.0, 30.0, math.nan, 3.0, math.inf])})
    assert got.prediction[:2].tolist() == [1.0, 0.0]
    assert got.probability is not None
    assert got.probability[:2].tolist() == [[0.25, 0.75], [0.9, 0.1]]
    assert list(got.error) == [
        None, None, "TreeModel: tenure is null or NaN", "TreeModel: contract is null or NaN", "TreeModel: tenure is infinite",
    ]  # fmt: skip
    assert np.isnan(got.prediction[2:]).all()
    assert list(scorer.score({"contract": contract[:0], "tenure": np.zeros(0)}).error) == []
    with pytest.raises(ModelError, match="expected a column 'tenure' of kind number"):
        scorer.score({"contract": contract})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no document", "not a PMML document"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + DOCUMENT, "has a DOCTYPE"),
        (DOCUMENT[:-20], "not a PMML document: no element found"),
        ("<html/>", "first element is html; expected PMML"),
        (DOCUMENT.replace("TreeModel", "TreeOfKnowledge"), "PMML4S cannot read it"),
        (DOCUMENT.replace('"integer"', '"dateTime"'), "field 'tenure' is dateTime"),
    ],
)
def test_documents_that_are_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        opened(tmp_path, text)
