"""A signed model is the one that somebody signed, and a configuration may ask for that."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from streaming.config.sections import SavedModel
from streaming.errors import ConfigError, ModelError
from streaming.scorers import files, signatures

pytest.importorskip("model_signing")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two key pairs, made as the documentation says."""
    root = tmp_path_factory.mktemp("keys")
    for name in ("mine", "theirs"):
        run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(root / name))
        run("ec", "-in", str(root / name), "-pubout", "-out", str(root / f"{name}.pub"))
    return {path.name: path for path in root.iterdir()}


def run(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "m"
    (root / "data").mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}")
    (root / "MANIFEST.json").write_text("{}")
    (root / "data" / "part").write_bytes(b"weights")
    return root


def section(uri: Path, sig: Path, key: Path) -> SavedModel:
    tree = {
        "name": "m",
        "version": "1",
        "uri": str(uri),
        "signature": {"file": str(sig), "public_key": str(key)},
        "require_signature": True,
    }
    return SavedModel.model_validate(tree)


def test_what_was_signed_is_admitted_and_nothing_else(folder: Path, keys: dict[str, Path], tmp_path: Path) -> None:
    sig = tmp_path / "m.sig"
    signatures.sign(files.read(str(folder)), sig, key=keys["mine"])
    mine = section(folder, sig, keys["mine.pub"])
    assert signatures.admitted(mine, files.read(str(folder))).files
    with pytest.raises(ModelError, match="is not one of these files by the key"):
        signatures.admitted(section(folder, sig, keys["theirs.pub"]), files.read(str(folder)))
    for name, content in (
        ("data/part", b"other"),
        ("data/more", b""),
        ("MANIFEST.json", b'{"label": 1}'),
        (".hidden", b""),
        ("data/.git", b""),
    ):
        target = folder / name
        before = target.read_bytes() if target.exists() else None
        target.write_bytes(content)
        with pytest.raises(ModelError, match="is not one of these files"):
            signatures.admitted(mine, files.read(str(folder)))
        target.unlink() if before is None else target.write_bytes(before)
    (folder / ".gitattributes").write_text("anything")
    with pytest.raises(ModelError, match="which signatures leave out"):
        signatures.admitted(mine, files.read(str(folder)))
    (folder / ".gitattributes").unlink()
    (folder / "data" / "part").unlink()
    with pytest.raises(ModelError, match="is not one of these files"):
        signatures.admitted(mine, files.read(str(folder)))


def test_a_file_is_signed_as_well_as_a_folder(keys: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "m.skops").write_bytes(b"model")
    signatures.sign(files.read(str(tmp_path / "m.skops")), tmp_path / "sig", key=keys["mine"])
    mine = section(tmp_path / "m.skops", tmp_path / "sig", keys["mine.pub"])
    assert signatures.admitted(mine, files.read(str(tmp_path / "m.skops")))
    (tmp_path / "m.skops").write_bytes(b"evil")
    with pytest.raises(ModelError, match="is not one of these files"):
        signatures.admitted(mine, files.read(str(tmp_path / "m.skops")))


@pytest.mark.parametrize("text", ["", "{}", "[" * 50_000, '{"mediaType": "x", "dsseEnvelope": {}}', "\xff"])
def test_a_signature_that_is_none_is_refused(text: str, folder: Path, keys: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "sig").write_text(text)
    with pytest.raises(ModelError, match=r"the signature .* is not one of"):
        signatures.admitted(section(folder, tmp_path / "sig", keys["mine.pub"]), files.read(str(folder)))


def test_what_is_missing_is_named(folder: Path, keys: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.signature\.file: no file"):
        signatures.admitted(section(folder, tmp_path / "none", keys["mine.pub"]), files.read(str(folder)))
    with pytest.raises(ConfigError, match="expected a private key on an elliptic curve"):
        signatures.sign(files.read(str(folder)), tmp_path / "sig", key=keys["mine.pub"])
    with pytest.raises(ValueError, match=r"require_signature: true needs signature"):
        SavedModel(name="m", version="1", uri="m", require_signature=True)
