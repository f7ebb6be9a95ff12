"""Who vouches for a model: signatures in OpenSSF's format (OMS), made and checked with plain keys, without any network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from streaming.config.sections import SavedModel
from streaming.errors import ConfigError, EnvironmentFailure, ModelError
from streaming.scorers.files import Package


def admitted(section: SavedModel, package: Package) -> Package:
    """The package. ModelError when it is not the one whose sha256, or whose signature, `section` names."""
    # Of an ONNX model that is a folder model.sha256 may be that of the one file, which its reader knows.
    verified = package if section.format == "onnx" else package.verified(section.sha256)
    if section.signature is not None:
        with verified.on_disk() as copy:
            check(section, copy)
    return verified


def check(section: SavedModel, copy: Path) -> None:
    """ModelError unless the files at `copy` are exactly those that `section.signature` signs. Does nothing without one."""
    if section.signature is None:
        return
    signature, key = Path(section.signature.file), Path(section.signature.public_key)
    for path, what in ((signature, "signature.file"), (key, "signature.public_key")):
        if not path.is_file():
            raise ModelError(f"{section.uri}: model.{what}: no file {path}; make it with: streaming sign CONFIG --key KEY")
    hidden = sorted(path.name for path in copy.glob(".git*")) if copy.is_dir() else []
    if hidden:
        raise ModelError(f"{section.uri}: has {', '.join(hidden)}, which signatures leave out; remove it from the model's folder")
    verifying = _library("verifying")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(copy, signature)
    except Exception as refused:  # a signature is somebody else's text: whatever goes wrong with it, it is not valid
        said = (str(refused).splitlines() or [""])[0].partition(":")[0] or type(refused).__name__
        raise ModelError(f"{section.uri}: the signature {signature} is not one of these files by the key {key}: {said}; restore the model, or, if "
                         "the change is yours, sign it again: streaming sign CONFIG --key KEY") from refused  # fmt: skip


def sign(package: Package, out: Path, *, key: Path, password: str | None = None) -> None:
    """Write the signature of the package's files to `out`. ConfigError when the key cannot be used."""
    signing, hashing = _library("signing"), _library("hashing")
    everything = hashing.Config().use_file_serialization(hashing_algorithm="sha256").set_ignored_paths(paths=[], ignore_git_paths=False)
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key, password=password).set_hashing_config(everything)
    except (OSError, ValueError, TypeError) as unusable:
        raise ConfigError(f"--key {key}: cannot be used: {unusable}; expected a private key on an elliptic curve in PEM, such as "
                          "openssl ecparam -name prime256v1 -genkey -noout makes") from unusable  # fmt: skip
    with package.on_disk() as copy:
        signer.sign(copy, out)


def _library(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import model_signing

            return getattr(model_signing, name)
    except ModuleNotFoundError as missing:
        raise EnvironmentFailure(
            f"signatures: the Python package {missing.name!r} is not installed; install it with: pip install 'streaming-scoring[sign]'"
        ) from missing
