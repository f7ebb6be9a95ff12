"""The pinned jars and Java: found, complete, or refused with the way out."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from streaming.errors import EnvironmentFailure
from streaming.runtime import jars, java


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def speaking_java(home: Path, *, version: str, modules: str = "java.base@1 jdk.incubator.vector@1") -> Path:
    """A java that only knows -version and --list-modules."""
    answers = (
        f'case "$1" in -version) echo \'openjdk version "{version}"\' >&2;; --list-modules) printf "%s\\n" {modules};; *) exit 1;; esac'
    )
    return executable(home / "bin" / "java", answers)


def listed(folder: Path, **sizes: int) -> Path:
    folder.mkdir(parents=True)
    for name, size in sizes.items():
        (folder / f"{name}.jar").write_bytes(b"x" * size)
    (folder / "jars.txt").write_text("".join(f"{size} {name}.jar\n" for name, size in sizes.items()))
    return folder


def test_every_artifact_is_pinned_and_spark_gets_nothing_it_has_already() -> None:
    dependencies = ElementTree.parse(jars.conf_file("jars.xml")).getroot().findall("dependencies/dependency")
    for dependency in dependencies:
        assert re.fullmatch(r"\d+(\.\d+)+", dependency.attrib["rev"]), dependency.attrib
        if dependency.attrib["conf"].startswith("spark->"):
            assert dependency.attrib["transitive"] == "false", dependency.attrib
    assert {d.attrib["conf"].split("->")[0] for d in dependencies} == set(jars.CONFS)


def test_a_folder_counts_only_with_every_jar_at_its_full_size(tmp_path: Path) -> None:
    folder = listed(tmp_path / "spark", a=3, b=5)
    assert jars._complete(folder) == [folder / "a.jar", folder / "b.jar"]
    (folder / "b.jar").write_bytes(b"xx")
    assert jars._complete(folder) is None
    (folder / "b.jar").unlink()
    assert jars._complete(folder) is None
    assert jars._complete(tmp_path / "nothing") is None


def test_a_jar_that_is_not_the_pinned_one_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(tmp_path / "jars" / "spark", a=3)
    monkeypatch.setattr(jars, "_cache_folder", lambda descriptor: tmp_path / "jars")
    file = tmp_path / "jars.sha256"
    monkeypatch.setattr(jars, "conf_file", lambda name: file if name == "jars.sha256" else jars.Path(name))
    file.write_text("# pins\n" + jars.pin({"spark": [tmp_path / "jars" / "spark" / "a.jar"]}))
    assert jars.resolve("spark") == [tmp_path / "jars" / "spark" / "a.jar"]
    (tmp_path / "jars" / "spark" / "a.jar").write_bytes(b"yyy")  # of the same size
    with pytest.raises(EnvironmentFailure, match=r"a\.jar: sha256 \w{64}, expected \w{64} by conf/jars.sha256: the file was changed"):
        jars.resolve("spark")
    file.write_text("")
    with pytest.raises(EnvironmentFailure, match="expected no such jar"):
        jars.resolve("spark")


def test_every_jar_that_is_fetched_is_pinned() -> None:
    folder = jars._cache_folder(jars.conf_file("jars.xml"))
    fetched = {path.name for conf in jars.CONFS for path in jars._complete(folder / conf) or ()}
    pinned = jars.pins(jars.conf_file("jars.sha256"))
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pinned.values())
    assert fetched - pinned.keys() == set(), "pin them: python -m streaming.runtime.jars --pin"
    assert jars.descriptor_coordinates().keys() <= pinned.keys()


def test_an_unreachable_network_is_explained_and_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A proxy on a port where nobody listens: every look-up is refused at once.
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9")
    monkeypatch.setattr(jars, "_cache_folder", lambda descriptor: tmp_path / "jars")
    with pytest.raises(
        EnvironmentFailure, match=r"(?s)cannot be fetched: .*spark-sql-kafka.*Check that this machine reaches.*STREAMING_IVY_SETTINGS"
    ):
        jars.resolve("spark")
    assert not list((tmp_path / "jars").iterdir())


def test_java_home_wins_over_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = speaking_java(tmp_path / "home", version="17.0.15"), speaking_java(tmp_path / "other", version="21")
    monkeypatch.setenv("PATH", f"{other.parent}:/usr/bin:/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java.java_command() == home
    monkeypatch.delenv("JAVA_HOME")
    assert java.java_command() == other


@pytest.mark.parametrize(
    ("version", "modules", "said"),
    [
        ("11.0.2", "java.base@11", r"found Java 11 at .*bin/java, Spark 4.2 needs Java 17 or newer; install"),
        ("1.8.0_402", "java.base@8", r"found Java 8 at"),
        ("17.0.1", "java.base@17", r"trimmed: its module jdk.incubator.vector is missing"),
        ("", "java.base@17", r"printed no version but"),
    ],
)
def test_an_unfit_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, modules: str, said: str) -> None:
    speaking_java(tmp_path, version=version, modules=modules)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=said):
        java.java_command()


def test_no_java_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=r"no java on PATH, and JAVA_HOME is not set; install Java 17"):
        java.java_command()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=r"there is no bin/java in it"):
        java.java_command()


def test_a_java_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "bin" / "java", "echo 'The operation couldn’t be completed. Unable to locate a Java Runtime.' >&2; exit 1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=r"exit code 1: .*Unable to locate a Java Runtime"):
        java.java_command()
