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
    digest = hashlib.sha256("\0".join((model, version)).encode()).hexdigest()
    name = f"{digest[:32]}.json"
    mine = {"model": model, "version": version, "sha256": sha256}
    folder = state.below(FOLDER)
    content = folder.read(name)
    if content is None:
        if folder.create(name, json.dumps(mine).encode()):
            return
        content = folder.read(name) or b"{}"
    known = json.loads(content).get("sha256")
    if known != sha256:
        raise other_files(uri, model=model, version=version, known=known, got=sha256)


def other_files(uri: str, *, model: str, version: str, known: str | None, got: str | None) -> ModelError:
    """What to say of files that changed while their version did not."""
    return ModelError(
        f"{uri}: the files changed under {model} version {version}: it was served with sha256 {known}, now they have {got}; a version names "
        "one model for ever, so give these files a model.version of their own, or restore the old ones"
    )
