"""Archives of classes: used where they fit, renewed with what they were made of, and never in the way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from streaming.runtime import classes, jars, java


@pytest.fixture
def jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only jar of each conf."""
    path = tmp_path / "a.jar"
    path.touch()
    monkeypatch.setattr(jars, "resolve", lambda _: [path])
    return path


def archives(jar: Path) -> list[str]:
    return sorted(path.name for path in jar.parent.iterdir() if path != jar)


def written(options: list[str]) -> Path:
    """The file that a JVM with these options writes as it ends."""
    (option,) = (option for option in options if option.startswith("-XX:ArchiveClassesAtExit="))
    path = Path(option.partition("=")[2])
    path.write_bytes(b"classes")
    return path


@pytest.mark.usefixtures("jar")
def test_without_an_archive_nothing_is_said_to_the_jvm() -> None:
    assert classes.options("spark") == []


def test_what_was_recorded_is_used_from_then_on(jar: Path) -> None:
    with classes.recorded("spark"):
        written(classes.options("spark"))
        assert not classes.archive("spark").exists()
    assert f"-XX:SharedArchiveFile={classes.archive('spark')}" in classes.options("spark")
    assert archives(jar) == [classes.archive("spark").name]


def test_other_jars_make_it_another_archive_and_the_old_one_goes(jar: Path) -> None:
    with classes.recorded("spark"):
        written(classes.options("spark"))
    os.utime(jar, ns=(1, 1))
    assert classes.options("spark") == []
    with classes.recorded("spark"):
        written(classes.options("spark"))
    assert archives(jar) == [classes.archive("spark").name]


def test_a_recording_that_fails_leaves_everything_as_it_was(jar: Path) -> None:
    with classes.recorded("spark"):
        written(classes.options("spark"))
    before = classes.archive("spark").read_bytes()

    def fails() -> None:
        with classes.recorded("spark"):
            written(classes.options("spark")).write_bytes(b"half of it")
            raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        fails()
    assert classes.archive("spark").read_bytes() == before
    assert archives(jar) == [classes.archive("spark").name]
    assert not any(option.startswith("-XX:ArchiveClassesAtExit") for option in classes.options("spark"))


@pytest.mark.usefixtures("jar")
def test_a_jvm_leaves_an_archive_aside_that_does_not_fit() -> None:
    classes.archive("spark").write_bytes(b"no archive at all")
    command = [str(java.java_command()), *classes.options("spark"), "-version"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout == ""
    assert "version" in answer.stderr
    assert "rchive" not in answer.stderr
