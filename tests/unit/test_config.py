"""Every wrong key, missing key and wrong type is refused in words that say where it is and what would be valid."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from streaming import config, secrets
from streaming.config.values import seconds
from streaming.errors import ConfigError

TREE: dict[str, Any] = {
    "name": "churn",
    "kafka": {"bootstrap_servers": "localhost:9092"},
    "events": {"topic": "customers", "key": "id", "schema": "id STRING, x DOUBLE"},
    "model": {"name": "churn", "version": "1", "uri": "models/churn"},
    "predictions": {"topic": "p", "rejected_topic": "r", "shadow_topic": "s"},
    "labels": {"topic": "labels"},
    "learners": [{"name": "a", "algorithm": "logistic_regression"}, {"name": "b", "algorithm": "kmeans"}],
    "store": {"kind": "sqlite", "path": "p.db"},
    "state": "state",
}


def tree(path: str = "", value: Any = None) -> dict[str, Any]:
    """The valid tree with one value set at a dotted path, or removed when the value is None."""
    changed = copy.deepcopy(TREE)
    if path:
        *parents, last = path.split(".")
        at: Any = changed
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        if value is None:
            del at[last]
        else:
            at[last] = value
    return changed


def refused(given: Any) -> str:
    with pytest.raises(ConfigError) as error:
        config.parse(given, source="x.yaml")
    return str(error.value)


def test_the_tree_of_these_tests_is_valid() -> None:
    parsed = config.parse(tree())
    assert parsed.champion == "churn"
    assert parsed.events.ddl == "id STRING, x DOUBLE"
    assert [learner.window for learner in parsed.learners] == [5_000, 5_000]
    assert config.parse(tree("learners.1.role", "champion")).champion == "b"


def test_the_config_says_which_topics_there_are_and_where_a_models_answers_go() -> None:
    parsed = config.parse(tree("learners.1.role", "champion"))
    assert parsed.topics() == {"events": "customers", "predictions": "p", "rejected": "r", "shadow": "s", "labels": "labels"}
    assert [parsed.topic_of(model) for model in ("churn", "a", "b")] == ["s", "s", "p"]
    plain = tree()
    del plain["learners"], plain["labels"], plain["predictions"]["shadow_topic"]
    assert config.parse(plain).topics() == {"events": "customers", "predictions": "p", "rejected": "r"}
    assert config.parse(plain).topic_of("churn") == "p"


@pytest.mark.parametrize("name", ["demo.yaml", "production.yaml"])
def test_the_configurations_in_conf_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DEMO_BROKER", "DEMO_HOME", "POSTGRES_PASSWORD"):
        monkeypatch.setenv(variable, "x")
    assert config.load(Path(__file__).parents[2] / "conf" / name).train is not None


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        ("nmae", "name, kafka, events"),
        ("score.triger", "mode, trigger, max_events_per_trigger"),
        ("events.shema", "topic, schema, key"),
        ("store.tabel", "trigger, max_predictions_per_trigger, kind, path, table"),
        ("labels.delay", "topic, field, schema"),
        ("learners.1.algoritm", "name, algorithm, role, params, warm_start, window"),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_valid_keys(path: str, valid: str) -> None:
    message = refused(tree(path, "1 second"))
    assert message.startswith(f"x.yaml: {path}: unknown key; valid keys: {valid}"), message


@pytest.mark.parametrize("path", ["name", "kafka.bootstrap_servers", "events.schema", "store.path", "learners.0.algorithm"])
def test_a_missing_key_is_named_with_its_path_and_the_valid_keys(path: str) -> None:
    message = refused(tree(path))
    assert message.startswith(f"x.yaml: {path}: missing; valid keys: "), message
    assert path.split(".")[-1] in message.split("valid keys: ")[1].split(", ")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model.version", 1, "string"),
        ("learn.partitions", 0, "greater than or equal to 1"),
        ("learn.partitions", "many", "integer"),
        ("score.mode", "fast", "'realtime' or 'microbatch'"),
        ("events.topic", "a b", "Kafka topic name"),
        ("events.topic", "..", "Kafka topic name"),
        ("events.topic", "x" * 250, "249"),
        ("name", "-a", "starting with a letter or a digit"),
        ("learn.trigger", "1 fortnight", '"500 ms"'),
        ("store.table", "drop table; --", "pattern"),
        ("model.sha256", "abc", "pattern"),
        ("spark.options", {"delta": 5}, "string"),
        ("events.columns", {"redis": 5}, "string"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(path: str, value: Any, words: str) -> None:
    message = refused(tree(path, value))
    full = path if not isinstance(value, dict) else f"{path}.{next(iter(value))}"
    assert message.startswith(f"x.yaml: {full}: "), message
    assert words in message


@pytest.mark.parametrize("given", [{"kind": "mongo"}, {"path": "p.db"}, {"kind": None}])
def test_an_unknown_store_lists_the_kinds(given: dict[str, Any]) -> None:
    assert refused(tree("store", given)) == "x.yaml: store.kind: expected one of delta, postgres, redis, sqlite"


@pytest.mark.parametrize(
    ("path", "value", "start"),
    [
        ("learners.1.name", "a", "x.yaml: learners: the name 'a' is used twice"),
        ("learners.1.name", "churn", "x.yaml: learners: the name 'churn' is used twice"),
        ("learners.1.name", "A", "x.yaml: learners: the name 'A' is used twice"),
        ("labels", None, "x.yaml: labels: missing"),
        ("predictions.shadow_topic", None, "x.yaml: predictions.shadow_topic: missing"),
        ("labels", {"topic": "t", "field": "y"}, "x.yaml: labels: give either topic"),
        ("labels", {"label": "y"}, "x.yaml: labels: give either topic"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(path: str, value: Any, start: str) -> None:
    assert refused(tree(path, value)).startswith(start)


def test_two_champions_are_refused() -> None:
    given = tree("learners.0.role", "champion")
    given["learners"][1]["role"] = "champion"
    assert refused(given).startswith("x.yaml: learners: two champions")


def test_every_mistake_is_told_at_once_and_each_once() -> None:
    given = tree("nmae", "x") | {"state": 5}
    assert len(refused(given).splitlines()) == 2


@pytest.mark.parametrize("given", [None, [], "text", 5])
def test_something_other_than_a_mapping_is_refused(given: Any) -> None:
    assert "expected a mapping with the keys name, kafka" in refused(given)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.parse(tree()).name = "other"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500 ms", 0.5), ("1 millisecond", 0.001), ("20 seconds", 20.0), ("1.5 s", 1.5), ("2m", 120.0), ("1 Minute", 60.0), ("2 hours", 7200.0),
     ("1 day", 86400.0), (" 0 seconds ", 0.0)],
)  # fmt: skip
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "seconds", "-1 s", "1 month", "1 s 2", "1e3 s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="number and a unit"):
        seconds(text)


def test_the_environment_is_put_in_everywhere_and_kept_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_process", secrets.Redactor())
    monkeypatch.setenv("T_PASSWORD", "hunter2-secret")
    monkeypatch.setenv("T_HOST", "broker.example")
    given = tree("kafka.options", {"sasl.jaas.config": 'x "${env:T_PASSWORD}" ${env:T_PASSWORD}'})
    given["kafka"]["bootstrap_servers"] = "${env:T_HOST}:9092"
    given["store"] = {"kind": "postgres", "dsn": "postgresql://u:${env:T_PASSWORD}@h/d"}
    given["learners"][0]["params"] = {"list": ["${env:T_HOST}", 3]}
    parsed = config.parse(given)
    assert parsed.kafka.bootstrap_servers == "broker.example:9092"
    assert parsed.kafka.plain_options() == {"sasl.jaas.config": 'x "hunter2-secret" hunter2-secret'}
    assert parsed.learners[0].params == {"list": ["broker.example", 3]}
    assert "hunter2-secret" not in repr(parsed) + str(parsed) + parsed.model_dump_json()
    assert secrets.redact("so: hunter2-secret at localhost") == "so: *** at localhost"


def test_an_address_from_the_environment_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_process", secrets.Redactor())
    monkeypatch.setenv("T_HOST", "broker.example")
    config.parse(tree("kafka.bootstrap_servers", "${env:T_HOST}"))
    assert secrets.redact("broker.example") == "broker.example"


def test_a_secret_of_the_wrong_type_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_PASSWORD", "hunter2-secret")
    given = tree("store", {"kind": "postgres", "dsn": "x", "table": "${env:T_PASSWORD}"})
    message = refused(given)
    assert "hunter2" not in message
    assert message.startswith("x.yaml: store.table: ")


def test_a_variable_that_is_not_set_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T_NOT_SET", raising=False)
    message = refused(tree("learners.0.params", {"a": ["${env:T_NOT_SET}"]}))
    assert message.startswith("x.yaml: learners.0.params.a.0: the environment variable T_NOT_SET is not set")


def test_nothing_else_is_interpolated() -> None:
    assert config.parse(tree("state", "${oc.env:X}/$HOME/${env:1X}")).state == "${oc.env:X}/$HOME/${env:1X}"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    with pytest.raises(ConfigError, match=r"x\.yaml: no such file"):
        config.load(file)
    file.write_text("a: [")
    with pytest.raises(ConfigError, match=r"x\.yaml: not valid YAML: .*line 1"):
        config.load(file)
    file.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match=r"x\.yaml: cannot be read"):
        config.load(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)
    file.write_text("name: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="not valid YAML"):
        config.load(file)
    file.write_text("")
    with pytest.raises(ConfigError, match="expected a mapping"):
        config.load(file)
