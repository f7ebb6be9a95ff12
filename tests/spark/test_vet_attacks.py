"""Models that attack whoever opens them: each of these got its way once. What counts is that nothing happened, not the words of the refusal."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.ml import Pipeline, classification
from pyspark.ml import feature as ft
from pyspark.sql import DataFrame, SparkSession

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import manifest, mlflow
from streaming.models.spark import pipeline, statement, vet
from streaming.models.spark.functions import ALLOWED
from tests.support.pipelines import labelled_rows, load

PROPERTY = "streaming.test.attack"


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return labelled_rows(spark)


@pytest.fixture(scope="module")
def saved(rows: DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pipeline with a statement, and one with a formula, which has a pipeline of its own."""
    root = tmp_path_factory.mktemp("saved")
    last = classification.LogisticRegression(maxIter=1)
    sql = ft.SQLTransformer(statement="SELECT *, x * 2 AS y FROM __THIS__")
    Pipeline(stages=[sql, ft.VectorAssembler(inputCols=["x", "y"], outputCol="features"), last]).fit(rows).write().save(str(root / "sql"))
    Pipeline(stages=[ft.RFormula(formula="label ~ c + x"), last]).fit(rows).write().save(str(root / "formula"))
    return {name: root / name for name in ("sql", "formula")}


@pytest.fixture
def copy(saved: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        made = Path(shutil.copytree(saved[name], tmp_path / name))
        for crc in made.rglob(".*.crc"):
            crc.unlink()
        return made

    return make


@pytest.fixture(autouse=True)
def nothing_happened(spark: SparkSession) -> Iterator[None]:
    """Whatever a test does, no Java property is set and none is gone."""
    before = dict(java(spark).getProperties())
    yield
    assert dict(java(spark).getProperties()) == before


def java(spark: SparkSession) -> Any:
    jvm: Any = spark._jvm
    return jvm.java.lang.System


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    (file,) = (folder / "metadata").glob("part-*")
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata) + "\n")


def stage(model: Path, index: int) -> Path:
    return next((model / "stages").glob(f"{index}_*"))


def call(name: str) -> str:
    return f"{name}('java.lang.System', 'setProperty', '{PROPERTY}', 'set')"


def test_a_pipeline_inside_a_stage_is_vetted_too(
    spark: SparkSession, copy: Callable[[str], Path], tmp_path: Path, monkeypatch: Any
) -> None:
    model, stolen = copy("formula"), tmp_path / "stolen"
    inner = next((model / "stages").glob("0_*")) / "pipelineModel"
    sql = copy("sql")
    (taken,) = (sql / "stages").glob("0_SQLTransformer_*")
    uid = taken.name.removeprefix("0_")
    text = f"INSERT OVERWRITE LOCAL DIRECTORY '{stolen}' USING json SELECT '${{env:HOME}}' AS password"
    edit(taken, lambda metadata: metadata["paramMap"].update(statement=text))
    known = json.loads(next((inner / "metadata").glob("part-*")).read_text())["paramMap"]["stageUids"]
    for i, name in reversed(list(enumerate(known))):
        (inner / "stages" / f"{i}_{name}").rename(inner / "stages" / f"{i + 1}_{name}")
    taken.rename(inner / "stages" / f"0_{uid}")
    edit(inner, lambda metadata: metadata["paramMap"].update(stageUids=[uid, *known]))
    with pytest.raises(ModelError):
        load(spark, model)
    assert not stolen.exists()


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (call("IDENTIFIER('java_' || 'method')"), "IDENTIFIER, which hides what is called"),
        (call("identifier('java_method')"), "which hides what is called|not among the functions"),
        (call("system.builtin.java_method"), "not among the functions"),
        (call("`Java_Method`"), "not among the functions"),
        (f"transform(array(1), v -> {call('reflect')})", "not among the functions"),
        (f"CASE WHEN true THEN {call('try_reflect')} END", "not among the functions"),
        (f"struct({call('java_method')} AS z).z", "not among the functions"),
        ("'${env:HOME}'", r"has \$\{"),
        ("'${system:user.home}'", r"has \$\{"),
        ("`${spark.master}`", r"has \$\{"),
        ("current_user()", "not among the functions"),
        ("uuid()", "not among the functions"),
        ("rand()", "not among the functions"),
        ("xpath_string('<a/>', 'a')", "not among the functions"),
        ("size(sequence(1, 100000000000))", "not among the functions"),
        ("length(repeat('x', 2000000000))", "not among the functions"),
        ("length(lpad('x', 2000000000, ' '))", "calls lpad without a length of at most"),
        ("length(lpad('x', CAST(x AS INT), ' '))", "calls lpad without a length of at most"),
        ("format_string('%2000000000d', 1)", "calls format_string without a format"),
        ("a_function_of_somebody(x)", "not among the functions"),
    ],
)
def test_a_statement_calls_only_what_computes(expression: str, says: str, spark: SparkSession, copy: Callable[[str], Path]) -> None:
    model = copy("sql")
    edit(stage(model, 0), lambda metadata: metadata["paramMap"].update(statement=f"SELECT *, x * 2 AS y, {expression} AS z FROM __THIS__"))
    with pytest.raises(ModelError, match=says):
        load(spark, model)


def test_a_pipe_cannot_hide_an_expression(spark: SparkSession) -> None:
    for text in (f"FROM __THIS__ |> SET x = {call('java_method')}", f"FROM __THIS__ |> EXTEND {call('java_method')} AS z"):
        with pytest.raises(ModelError):
            statement.check(text, uid="u", where="m: statement", spark=spark)


@pytest.mark.parametrize("uid", ["t -- ", "t`, x", "a b", "t/*", "../t", "1t", "t-1", "t.x", "", "${env:HOME}"])
def test_a_uid_cannot_change_what_was_vetted(uid: str, spark: SparkSession, copy: Callable[[str], Path]) -> None:
    model = copy("sql")
    edit(stage(model, 0), lambda metadata: metadata.update(uid=uid))
    with pytest.raises(ModelError):
        load(spark, model)


@pytest.mark.parametrize("name", ["data/part *", "stages/0_{a,b}/x", "data/a=1", "data/ü"])
def test_a_file_whose_name_means_others_is_refused(name: str, spark: SparkSession, copy: Callable[[str], Path]) -> None:
    target = copy("sql") / name
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    with pytest.raises(ModelError, match="as Spark writes them"):
        load(spark, target.parents[len(Path(name).parts) - 1])


def test_two_folders_that_may_be_the_same_stage_are_refused(spark: SparkSession, copy: Callable[[str], Path]) -> None:
    model = copy("sql")
    shutil.copytree(stage(model, 0), model / "stages" / f"0{stage(model, 0).name}")
    with pytest.raises(ModelError, match="its folder has"):
        load(spark, model)


def test_variables_are_not_replaced_in_any_sql(spark: SparkSession) -> None:
    assert spark.sql("SELECT '${env:HOME}' AS a").collect()[0]["a"] == "${env:HOME}"


def test_what_people_write_is_allowed(spark: SparkSession) -> None:
    useful = """x + 1, -x, x % 2, x DIV 2, ~CAST(x AS INT), x << 1, c || 'a', x BETWEEN 1 AND 2, c LIKE 'a%', c RLIKE 'a', c NOT IN ('a', 'b'),
        CASE c WHEN 'a' THEN 1 ELSE 2 END, CASE WHEN x > 1 THEN 1 END, x IS NULL, x IS NOT DISTINCT FROM 1, x::INT, TRY_CAST(c AS DOUBLE), m['a'], a[0],
        s.a.b, (x, c), struct(x AS y), named_struct('a', x), EXTRACT(YEAR FROM t), POSITION('a' IN c), SUBSTRING(c FROM 1 FOR 2), TRIM(BOTH 'a' FROM c),
        OVERLAY(c PLACING 'a' FROM 1), transform(a, v -> v + 1), aggregate(a, 0D, (acc, v) -> acc + v), DATEDIFF(DAY, t, t), TIMESTAMPADD(DAY, 1, t),
        DATE '2020-01-01', INTERVAL 1 DAY, lpad(c, 10, '0'), format_string('%05.2f %s', x, c), coalesce(x, 0), if(x > 1, 1, 0), ln(x), log1p(x),
        x NOT BETWEEN 1 AND 2, c ILIKE ANY ('a', 'b'), current_date, date_format(t, 'yyyy'), hash(c), element_at(a, 1), array_contains(a, 1), `odd name`"""
    columns = statement.check(f"SELECT *, __THIS__.x AS y, {useful} FROM __THIS__", uid="SQLTransformer_0a", where="m", spark=spark)
    assert {"x", "c", "m", "odd name"} <= set(columns.reads)
    assert "y" in columns.writes
    inner = statement.check("SELECT * EXCEPT (x) FROM (SELECT x * 2 AS y, * FROM __THIS__ AS a) AS b", uid="u", where="m", spark=spark)
    assert set(inner.writes) == {"y"}


def test_every_function_of_the_list_is_a_scalar_function_of_spark(spark: SparkSession) -> None:
    session: Any = spark._jsparkSession
    registry = session.sessionState().functionRegistry()
    known, groups = registry.listFunction().iterator(), {}
    while known.hasNext():
        name = known.next()
        groups[name.funcName()] = registry.lookupFunction(name).get().getGroup()
    assert groups.keys() >= ALLOWED
    unwanted = {"agg_funcs", "window_funcs", "generator_funcs", "misc_funcs", "xml_funcs"}
    assert {name for name in ALLOWED if groups[name] in unwanted} == {"typeof"}


def test_what_was_vetted_is_what_is_loaded(spark: SparkSession, copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The files change between vetting and loading, and are gone afterwards."""
    model, honest = copy("sql"), vet.vet

    def swapped(*arguments: Any) -> Any:
        stages = honest(*arguments)
        edit(stage(model, 2), lambda metadata: metadata["paramMap"].update(threshold=0.01))
        shutil.rmtree(model / "stages" / stage(model, 0).name)
        return stages

    monkeypatch.setattr(pipeline, "vet", swapped)
    loaded = load(spark, model)
    shutil.rmtree(model)
    assert loaded.fitted.getThreshold() == 0.5
    assert oct(loaded.copy.folder.stat().st_mode & 0o777) == "0o700"
    events = spark.createDataFrame([(1.0,)], "x DOUBLE")
    assert loaded.transform(events).first()["error"] is None  # type: ignore[index]
    folder = loaded.copy.folder
    del loaded
    assert not folder.exists()


def test_a_file_that_spark_reads_is_in_the_fingerprint(spark: SparkSession, copy: Callable[[str], Path]) -> None:
    model = copy("sql")
    before = load(spark, model).fingerprint
    data = stage(model, 2) / "data"
    shutil.copy(next(data.glob("*.parquet")), data / "part-00009.crc")
    assert manifest.fingerprint(spark, str(model)) != before
    with pytest.raises(ModelError, match="tampered with"):
        load(spark, model, sha256=before)
    (data / "part-00009.crc").unlink()
    (data / "_SUCCESS").write_bytes(b"anything")
    assert not list(load(spark, model, sha256=before).copy.folder.rglob("_SUCCESS"))


def test_the_fingerprint_covers_what_the_manifest_says_of_labels_and_types(spark: SparkSession, copy: Callable[[str], Path]) -> None:
    model, told = copy("sql"), {"label": {"classes": {"no": 0, "yes": 1}}, "features": {"schema": "x DOUBLE"}}
    recorded = manifest.write(spark, str(model), told)
    assert load(spark, model, sha256=recorded).manifest == {**told, "format_version": 2, "sha256": recorded}
    file = model / "MANIFEST.json"
    good = file.read_text()
    file.write_text(good.replace('"no": 0', '"no": 1').replace('"yes": 1', '"yes": 0'))
    with pytest.raises(ModelError, match="tampered with"):
        load(spark, model)
    with pytest.raises(ModelError, match="tampered with"):
        load(spark, model, sha256=recorded)
    # A manifest of the first format is not covered, so a pinned model does not believe it.
    file.write_text(json.dumps({**told, "made_by": "me", "format_version": 1}))
    files_alone = load(spark, model).fingerprint
    assert load(spark, model, sha256=files_alone).manifest == {"made_by": "me", "format_version": 1}
    file.write_text("[" * 100_000)
    with pytest.raises(ModelError, match="nested too deeply"):
        load(spark, model)


def test_deeply_nested_metadata_is_a_model_error(spark: SparkSession, copy: Callable[[str], Path]) -> None:
    model = copy("sql")
    (file,) = (stage(model, 1) / "metadata").glob("part-*")
    file.write_text(file.read_text().replace('"paramMap":', '"deep":' + "[" * 100_000 + "]" * 100_000 + ',"paramMap":', 1))
    with pytest.raises(ModelError, match="nested too deeply"):
        load(spark, model)


@pytest.mark.parametrize(
    "change", [{"paramMap": []}, {"paramMap": {"inputCols": 3}}, {"paramMap": {"inputCols": [3]}}, {"defaultParamMap": "x"}]
)
def test_metadata_of_another_shape_is_a_model_error(change: dict[str, Any], spark: SparkSession, copy: Callable[[str], Path]) -> None:
    model = copy("sql")
    edit(stage(model, 1), lambda metadata: metadata.update(change))
    with pytest.raises(ModelError, match="expected the JSON of a Spark ML stage"):
        load(spark, model)


@pytest.mark.parametrize(
    ("allowed", "name", "ok"),
    [
        ("com.acme", "com.acme.Stage", True),
        ("com.acme.", "com.acme.deep.Stage", True),
        ("com.acme.Stage", "com.acme.Stage", True),
        ("com.acme.Stage", "com.acme.Stage$Inner", True),
        ("com.acme", "com.acmeevil.Stage", False),
        ("com.acme.Stage", "com.acme.StageEvil", False),
        ("", "com.evil.Stage", False),
        (".", "com.evil.Stage", False),
    ],
)
def test_an_allowed_class_is_a_whole_name(allowed: str, name: str, ok: bool) -> None:
    assert vet._allowed(name, [allowed]) is ok


@pytest.mark.parametrize("place", ["../../other", "/tmp", "sparkml/../..", "", ".", "a//b"])
def test_the_data_of_an_mlflow_model_lie_inside_it(place: str, spark: SparkSession, copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "mlflow"
    folder.mkdir(parents=True)
    shutil.copytree(copy("sql"), tmp_path / "other")
    shutil.copytree(tmp_path / "other", folder / "sparkml")
    (folder / "MLmodel").write_text(f"flavors: {{spark: {{model_data: '{place}'}}}}")
    with pytest.raises(ModelError, match="not a folder inside the model"):
        mlflow.load(SavedModel(name="m", version="1", format="mlflow", uri=str(folder)), spark)
    (folder / "MLmodel").write_text("flavors: {spark: {model_data: sparkml}}")
    assert mlflow.load(SavedModel(name="m", version="1", format="mlflow", uri=str(folder)), spark).runs_in_jvm


def test_an_unused_variable_stays_unread() -> None:
    """The attacks above ask for it: were it not there, they would prove nothing."""
    assert os.environ["HOME"]
