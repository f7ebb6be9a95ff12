"""A PMML document that would never come to an end is refused before anything of it is evaluated."""

from __future__ import annotations

import pytest

from streaming.errors import ModelError
from streaming.scorers.files import Package
from streaming.scorers.pmml import document

FUNCTION = '<DefineFunction name="{name}" optype="continuous"><ParameterField name="p"/><Apply function="{calls}"><FieldRef field="p"/></Apply></DefineFunction>'
FIELD = '<DerivedField name="{name}" optype="continuous" dataType="double"><FieldRef field="{of}"/></DerivedField>'


def pmml(*parts: str, below: str = "") -> Package:
    data = '<DataDictionary><DataField name="x" optype="continuous" dataType="double"/></DataDictionary>'
    text = f"<PMML>{data}<TransformationDictionary>{''.join(parts)}</TransformationDictionary>{below}</PMML>"
    return Package("m.pmml", {"m.pmml": text.encode()}, is_folder=False)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (pmml(FUNCTION.format(name="f", calls="f")), "function f refers to function f"),
        (pmml(FUNCTION.format(name="f", calls="g"), FUNCTION.format(name="g", calls="f")), "refers to function"),
        (pmml(FIELD.format(name="d", of="e"), FIELD.format(name="e", of="d")), "refers to field"),
        (pmml(FIELD.format(name="d", of="d")), "field d refers to field d"),
        (pmml('<DerivedField name="d"><Apply function="f"><FieldRef field="x"/></Apply></DerivedField>',
              '<DefineFunction name="f"><FieldRef field="d"/></DefineFunction>'), "refers to"),
        (pmml(below="<Node>" * 600 + "</Node>" * 600), "601 deep"),
    ],
)  # fmt: skip
def test_a_document_that_never_ends_is_refused(package: Package, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        document(package)


def test_calls_that_come_to_an_end_are_no_fault() -> None:
    parts = [
        FUNCTION.format(name="f", calls="g"),
        FUNCTION.format(name="g", calls="log"),
        FIELD.format(name="d", of="x"),
        FIELD.format(name="x", of="x"),
    ]
    assert document(pmml(*parts, below="<Node>" * 100 + "</Node>" * 100)).startswith("<PMML>")
