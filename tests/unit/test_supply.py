"""What is shipped and what it is made of: pins of images, the list of parts, what is installed unasked, and who was asked about holes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DIGEST = f"sha256:{'a' * 64}"


def copied(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def run(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", folder / script], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path, **environment}, timeout=60
    )


def test_nothing_under_the_agpl_is_installed_unasked(tmp_path: Path) -> None:
    """The lines of the setup that choose, run over the real lock."""
    setup = (ROOT / "scripts" / "setup.sh").read_text()
    chooses = setup[setup.index("locked=$(mktemp)") : setup.index('echo "installing')].replace("trap 'rm -f \"$locked\"' EXIT", "")
    lock = (ROOT / "requirements.lock").read_text()

    def chosen(**environment: str) -> str:
        script = f'set -euo pipefail\n{chooses}\ncat "$locked"; rm "$locked"'
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, **environment}
        )
        return done.stdout

    without = chosen(AGPL="")
    assert "the PMML converter (JPMML-SparkML, AGPL-3.0) is left out" in without
    assert "pyspark2pmml==" not in without
    names = re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
    assert set(re.findall(r"^([\w.-]+)==", without, re.MULTILINE)) == set(names) - {"pyspark2pmml"}
    assert without.count("--hash=sha256:") < lock.count("--hash=sha256:") == chosen(AGPL="1").count("--hash=sha256:")


def test_every_image_is_pinned_or_none(tmp_path: Path) -> None:
    folder = copied(tmp_path, "scripts/pin-images.sh", "docker/Dockerfile", "docker/compose.yaml")
    before = {name: (folder / "docker" / name).read_text() for name in ("Dockerfile", "compose.yaml")}
    program(folder / "bin", "docker", f'case "$*" in *postgres*) exit 1;; *) echo {DIGEST};; esac')
    done = run(folder, "scripts/pin-images.sh")
    assert (done.returncode, "no digest of postgres" in done.stderr) == (1, True)
    assert {name: (folder / "docker" / name).read_text() for name in before} == before
    program(folder / "bin", "docker", f"echo {DIGEST}")
    assert run(folder, "scripts/pin-images.sh").returncode == 0
    for name in before:
        pinned = re.findall(r"^(?:FROM|\s+image:)\s+(\S+:\S+)", (folder / "docker" / name).read_text(), re.MULTILINE)
        assert pinned
        assert all(re.fullmatch(rf"[\w./-]+:[\w.-]+@{DIGEST}", image) for image in pinned), pinned
    program(folder / "bin", "docker", f"echo sha256:{'b' * 64}")
    assert run(folder, "scripts/pin-images.sh").returncode == 0  # a pin is exchanged, not doubled
    compose = (folder / "docker" / "compose.yaml").read_text()
    assert compose.count("@sha256:b") == compose.count("@sha256:") > 1


@pytest.mark.parametrize(
    ("said", "code", "scanner", "expected", "words"),
    [
        ("No known vulnerabilities found", 0, True, 0, "no known vulnerability in"),
        ("No known vulnerabilities found", 0, False, 3, "jars: NOT AUDITED"),
        ("Found 2 known vulnerabilities in 1 package", 1, True, 1, "Found 2"),
        ("requests.exceptions.ConnectionError: no route", 1, True, 3, "packages: NOT AUDITED"),
        ("ERROR: urllib3: Dependency not found on PyPI and could not be audited", 1, True, 3, "packages: NOT AUDITED"),
    ],
)
def test_nobody_asked_is_not_the_same_as_nothing_known(
    tmp_path: Path, said: str, code: int, scanner: bool, expected: int, words: str
) -> None:
    folder = copied(tmp_path, "scripts/audit.sh", "requirements.lock")
    program(folder / ".venv" / "bin", "uv", f'echo "{said}"; exit {code}')
    if scanner:
        program(folder / "bin", "osv-scanner", "exit 0")
    done = run(folder, "scripts/audit.sh", PIP_AUDIT_VERSION="2")
    assert (done.returncode, words in done.stdout + done.stderr) == (expected, True), done.stdout + done.stderr


def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "scripts" / "sbom.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_jar_is_listed_under_its_coordinates_with_its_hash(tmp_path: Path) -> None:
    jar = tmp_path / "inner-name-1.2.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/maven/x/shaded/pom.properties", "groupId=x\nartifactId=shaded\nversion=9\n")
        archive.writestr("META-INF/maven/org.a/inner-name/pom.properties", "#c\ngroupId=org.a\nartifactId=inner-name\nversion=1.2\n")
    listed = sbom().component(jar, "b" * 64)
    assert listed["purl"] == "pkg:maven/org.a/inner-name@1.2?type=jar"
    assert listed["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    plain = tmp_path / "no-pom-3.jar"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("a", "")
    assert sbom().component(plain, "c" * 64)["purl"].startswith("pkg:generic/no-pom-3.jar?checksum=sha256:")
    assert sbom().coordinates(tmp_path / "kafka-clients-3.9.2.jar") == ("org.apache.kafka", "kafka-clients", "3.9.2")
