"""What is refused before Spark loads anything of it, and what the message says to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.ml import Pipeline, PipelineModel, classification, recommendation
from pyspark.ml import feature as ft
from pyspark.sql import DataFrame, SparkSession

from streaming.errors import ModelError
from streaming.models import manifest
from tests.support.pipelines import labelled_rows, load

SQL = "SELECT *, x * 2 AS double_x FROM __THIS__"


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return labelled_rows(spark)


@pytest.fixture(scope="module")
def parts(rows: DataFrame) -> Callable[..., PipelineModel]:
    """`parts(stages first, assembled columns)`: a fitted pipeline; the regression is fitted once for each width."""

    def build(first: list[Any], columns: list[str]) -> PipelineModel:
        last = classification.LogisticRegression(maxIter=1)
        return Pipeline(stages=[*first, ft.VectorAssembler(inputCols=columns, outputCol="features", handleInvalid="keep"), last]).fit(rows)

    return build


@pytest.fixture(scope="module")
def plain(parts: Callable[..., PipelineModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "m"
    parts([ft.SQLTransformer(statement=SQL)], ["x", "double_x"]).write().save(str(path))
    return path


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    import shutil

    for crc in (shutil.copytree(plain, tmp_path / "m")).rglob(".*.crc"):
        crc.unlink()
    return tmp_path / "m"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the metadata of the stage in `folder`."""
    (file,) = (folder / "metadata").glob("part-*")
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata) + "\n")


def stage(model: Path, index: int) -> Path:
    return next((model / "stages").glob(f"{index}_*"))


def test_a_missing_model_names_the_uri(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{tmp_path}/none: no such model; .*check model\.uri"):
        load(spark, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no metadata folder"):
        load(spark, tmp_path / "empty")
    with pytest.raises(ModelError, match="cannot be reached"):
        load(spark, "nosuchscheme://there/m")


def test_without_a_manifest_it_just_works_and_with_one_it_is_checked(spark: SparkSession, copy: Path) -> None:
    model = load(spark, copy)
    assert model.manifest is None
    assert load(spark, f"file:{copy}", sha256=model.fingerprint).fingerprint == model.fingerprint
    recorded = manifest.write(spark, str(copy), {"name": "churn"})
    assert recorded == manifest.fingerprint(spark, str(copy)) != model.fingerprint
    assert load(spark, copy).manifest == {"name": "churn", "sha256": recorded, "format_version": 2}
    with pytest.raises(ModelError, match=f"model.sha256 in the config expects sha256 {'0' * 64}, got {recorded}"):
        load(spark, copy, sha256="0" * 64)
    edit(stage(copy, 2), lambda metadata: metadata["paramMap"].update(threshold=0.1))
    with pytest.raises(ModelError, match=r"tampered with: MANIFEST\.json expects .* restore the model"):
        load(spark, copy)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("com.evil.Stage", r"is not allowed: .*model\.allow_classes"),
        ("os.system", "is not allowed"),
        ("org.apache.spark.mlevil.feature.XModel", "is not allowed"),
        ("org.apache.spark.ml.util.DefaultParamsReader", "is not fitted, or no model"),
        ("pyspark.ml.feature.os.systemModel", "is not fitted, or no model"),
        ("org.apache.spark.ml.Pipeline", "is not fitted"),
        ("org.apache.spark.ml.classification.LogisticRegression", "is not fitted.*call fit and save"),
        ("org.apache.spark.ml.classification.OneVsRestModel", "cannot run on a stream: .*family=multinomial"),
    ],
)
@pytest.mark.parametrize("place", ["", "stage"])
def test_only_known_classes_are_loaded(name: str, says: str, place: str, spark: SparkSession, copy: Path) -> None:
    folder = stage(copy, 2) if place else copy
    edit(folder, lambda metadata: metadata.update({"class": name}))
    with pytest.raises(ModelError, match=says):
        load(spark, copy)


def test_a_class_hidden_from_a_simple_reader_is_found(spark: SparkSession, copy: Path) -> None:
    folder = stage(copy, 2) / "metadata"
    (file,) = folder.glob("part-*")
    good = file.read_text()
    file.write_text(good.replace('"class":', '"class":"com.evil.Stage","class":', 1))
    with pytest.raises(ModelError, match="a name stands twice"):
        load(spark, copy)
    file.write_text('{"class":"com.evil.Stage"}\n' + good)
    with pytest.raises(ModelError, match="expected one line of JSON, got 2"):
        load(spark, copy)
    file.write_text(good)
    (folder / "part-00001").write_text("{}\n")
    with pytest.raises(ModelError, match="expected exactly one file"):
        load(spark, copy)


def test_a_uid_cannot_lead_out_of_the_folder(spark: SparkSession, copy: Path) -> None:
    edit(copy, lambda metadata: metadata["paramMap"].update(stageUids=["../../evil"]))
    with pytest.raises(ModelError, match="its folder has"):
        load(spark, copy)
    edit(stage(copy, 1), lambda metadata: metadata.update(uid="../evil"))
    with pytest.raises(ModelError, match=r"a uid of letters.* that leads to no other folder"):
        load(spark, copy)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT * FROM __THIS__ WHERE x > 1", "WHERE, which drops rows"),
        ("SELECT * FROM __THIS__ LIMIT 10", "LIMIT, which silently ends"),
        ("SELECT * FROM __THIS__ ORDER BY x", "ORDER BY"),
        ("SELECT DISTINCT * FROM __THIS__", "DISTINCT, which drops rows"),
        ("SELECT count(*) AS double_x, max(x) AS x FROM __THIS__", "calls count, which is not among the functions"),
        ("SELECT x, count(*) AS double_x FROM __THIS__ GROUP BY x", "an aggregation"),
        ("SELECT *, sum(x) OVER (PARTITION BY c) AS double_x FROM __THIS__", "a window"),
        ("SELECT *, explode(array(x, x)) AS double_x FROM __THIS__", "calls explode, which is not among"),
        ("SELECT a.* FROM __THIS__ a JOIN __THIS__ b", "a join"),
        ("SELECT *, (SELECT 1) AS double_x FROM __THIS__", "a subquery"),
        ("SELECT * FROM other", "reads another table"),
        ("SELECT * FROM parquet.`/etc`", "reads another table"),
        ("SELECT TRANSFORM(x) USING 'touch /tmp/evil' AS (x) FROM __THIS__", "a command of the operating system"),
        ("SELECT *, java_method('java.lang.System', 'exit', 1) AS double_x FROM __THIS__", "which is not among the functions"),
        ("SELECT *, Reflect('java.lang.System', 'exit', 1) AS double_x FROM __THIS__", "which is not among the functions"),
        ("DROP TABLE churn", "expected SELECT"),
        ("SELEC", "not SQL"),
    ],
)
def test_a_statement_may_only_compute_columns(statement: str, says: str, spark: SparkSession, copy: Path) -> None:
    edit(stage(copy, 0), lambda metadata: metadata["paramMap"].update(statement=statement))
    with pytest.raises(ModelError, match=says) as refused:
        load(spark, copy)
    assert "stages/0_SQLTransformer_" in str(refused.value)


def test_skip_is_refused_wherever_it_stands(spark: SparkSession, parts: Callable[..., PipelineModel], tmp_path: Path) -> None:
    inner = Pipeline(stages=[ft.StringIndexer(inputCol="c", outputCol="ci", handleInvalid="skip")])
    parts([inner], ["ci", "x"]).write().save(str(tmp_path / "m"))
    with pytest.raises(ModelError, match=r'stage 0 StringIndexerModel .*handleInvalid="skip" drops rows.*"keep".*rejected topic'):
        load(spark, tmp_path / "m")


def test_a_formula_that_skips_is_refused(spark: SparkSession, rows: DataFrame, tmp_path: Path) -> None:
    formula = ft.RFormula(formula="label ~ c + x", handleInvalid="skip")
    Pipeline(stages=[formula, classification.LogisticRegression(maxIter=1)]).fit(rows).write().save(str(tmp_path / "m"))
    with pytest.raises(ModelError, match=r"stage 0 RFormulaModel .*drops rows"):
        load(spark, tmp_path / "m")


def test_a_vector_without_a_size_is_refused(spark: SparkSession, parts: Callable[..., PipelineModel], tmp_path: Path) -> None:
    first = [ft.VectorAssembler(inputCols=["x"], outputCol="v"), ft.Normalizer(inputCol="v", outputCol="n")]
    PipelineModel(parts(first, ["n", "x"]).stages[1:]).write().save(str(tmp_path / "m"))
    with pytest.raises(ModelError, match=r"stage 1 VectorAssembler .*the vector n does not say its size; put a VectorSizeHint before"):
        load(spark, tmp_path / "m")
    hinted = [*first, ft.VectorSizeHint(inputCol="n", size=1, handleInvalid="error")]
    PipelineModel(parts(hinted, ["n", "x"]).stages[1:]).write().save(str(tmp_path / "hinted"))
    model = load(spark, tmp_path / "hinted")
    events = spark.createDataFrame([([2.0], 1.0), ([1.0, 2.0], 1.0), ([None], 1.0), (None, 1.0)], "v ARRAY<DOUBLE>, x DOUBLE")
    errors = [row["error"] for row in model.transform(events).collect()]
    assert errors == [
        None,
        "stage 1 VectorSizeHint (n -> n): refuses the value of n",
        "Input (v -> v): refuses the value of v",
        "Input (v -> v): v is null",
    ]


def test_als_and_what_does_not_predict_are_refused(spark: SparkSession, rows: DataFrame, tmp_path: Path) -> None:
    ratings = spark.createDataFrame([(1, 1, 1.0), (2, 1, 2.0)], "user INT, item INT, rating DOUBLE")
    recommendation.ALS(maxIter=1, rank=1).fit(ratings).write().save(str(tmp_path / "als"))
    with pytest.raises(ModelError, match=r"ALSModel .*joins tables"):
        load(spark, tmp_path / "als")
    Pipeline(stages=[ft.StringIndexer(inputCol="c", outputCol="ci")]).fit(rows).write().save(str(tmp_path / "features"))
    with pytest.raises(ModelError, match=r"no stage predicts: stage 0 StringIndexerModel"):
        load(spark, tmp_path / "features")
    Pipeline(stages=[ft.StringIndexer(inputCol="c", outputCol="ci")]).write().save(str(tmp_path / "unfitted"))
    with pytest.raises(ModelError, match="not fitted"):
        load(spark, tmp_path / "unfitted")
