"""One version, one model: which files a version had when it was first served, for the job and for the API beside it.

A prediction names its model's version. So once a version has answered, other files under the same version are refused,
whoever would serve them: the stream, or REST, or the same process after a restart.
"""

from __future__ import annotations

import hashlib
import json

from streaming.errors import ModelError
from streaming.runtime.files import Folder

#: The folder inside the state, with one file for each version that was ever served.
FOLDER = "model_versions"


def claim(state: Folder, *, model: str, version: str, sha256: str, uri: str) -> None:
    """Write down which files this version has, or see that they are still the same. ModelError when they are others."""
    mine = {"model": model, "version": version, "sha256": sha256}
    if not state.below(FOLDER).create(_name(model, version), json.dumps(mine).encode()):
        agree(state, model=model, version=version, sha256=sha256, uri=uri)


def agree(state: Folder, *, model: str, version: str, sha256: str, uri: str) -> None:
    """See that this version, if it was ever served, was served with these files. ModelError when not. Nothing is written."""
    before = known(state, model=model, version=version)
    if before not in (None, sha256):
        raise other_files(uri, model=model, version=version, known=before, got=sha256)


def known(state: Folder, *, model: str, version: str) -> str | None:
    """The sha256 of the files that this version was first served with; None when it was never served."""
    content = state.below(FOLDER).read(_name(model, version))
    return None if content is None else str(json.loads(content).get("sha256"))


def _name(model: str, version: str) -> str:
    return f"{hashlib.sha256(chr(0).join((model, version)).encode()).hexdigest()[:32]}.json"


def other_files(uri: str, *, model: str, version: str, known: str | None, got: str | None) -> ModelError:
    """What to say of files that changed while their version did not."""
    return ModelError(
        f"{uri}: the files changed under {model} version {version}: it was served with sha256 {known}, now they have {got}. A version names "
        f"one model for ever: set model.version to one that was never served (now it is {version!r}) and restart, or put the old files back"
    )
