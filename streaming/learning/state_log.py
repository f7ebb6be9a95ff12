"""What learners remember: states addressed by batch number, first writer wins, and the weights file that publishes the newest.

A state is a function of (rows of batch n, state n-1) and is looked up by number: "the newest" is never asked for when
learning, so a crash at any point leaves the same weights. One folder a learner:

    state/learners/NAME/start.npz      the state before the first batch (cold or warm)
    state/learners/NAME/0000000017.npz the state after batch 17
    state/learners/NAME/command.json   what people asked for, and the job's word: see streaming.learning.commands
    state/learners/NAME.origin.json    which checkpoint's batches these are, and what was learned on: streaming.learning.origin
    state/learners/NAME.started        which batch came first: tells a new learner from one whose folder was lost
    state/weights.json                 the published weights of all learners, one line of fixed length
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.errors import StateError
from streaming.learning.commands import Commands
from streaming.runtime.files import Folder

Arrays = Mapping[str, NDArray[Any]]
#: How far a batch reads: topic -> partition -> next offset.
Ends = Mapping[str, Mapping[str, int]]

#: The newest states are all kept; older ones ever more sparsely, so that the log grows with the logarithm of time.
KEPT_WHOLE: Final = 100

#: The version of a warm start, before the first label.
WARM: Final = "warm"

_START: Final = "start.npz"
#: Among the arrays beside the state: JSON, so that a version that does not know it passes it over.
_ENDS: Final = "ends"


@dataclass(frozen=True)
class Meta:
    """What is known of a state beside its numbers."""

    #: The batch that made it; -1 for the start.
    batch: int
    #: The version its weights have in predictions: the number of the last batch that changed them. None: cold.
    version: str | None
    #: Labels learned in this batch, and since the start.
    learned: int = 0
    total: int = 0
    #: ISO 8601, UTC. Not part of what learning depends on.
    at: str = ""
    #: Prequential metrics over the window that ends here, and over this batch alone.
    metrics: dict[str, float] = field(default_factory=dict)
    #: Why the learner is frozen; None while it learns.
    frozen: str | None = None
    #: The batch whose state this one was learned from: n-1, or the target of a rollback.
    base: int = -1
    #: The id of the last command that was carried out.
    command: str | None = None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A learner's state after one batch: arrays only (never pickle), and what is known of it."""

    meta: Meta
    #: The learner's state, as streaming.online.base.to_arrays gives it.
    state: Arrays
    #: What the lane keeps beside it: metrics windows, and which labels were learned, for replays.
    extra: Arrays = field(default_factory=dict)

    @property
    def read_to(self) -> Ends:
        """How far the batch that made it had read; empty in states of before this was kept, and in the start."""
        kept = self.extra.get(_ENDS)
        return {} if kept is None else json.loads(kept.tobytes())

    def reading_to(self, ends: Ends) -> Snapshot:
        """The same, made by a batch that read so far."""
        said = json.dumps(ends, sort_keys=True).encode()
        return Snapshot(self.meta, self.state, {**self.extra, _ENDS: np.frombuffer(said, dtype=np.uint8)})

    def to_bytes(self) -> bytes:
        """The snapshot as .npz."""
        buffer = io.BytesIO()
        meta = np.frombuffer(json.dumps(asdict(self.meta)).encode(), dtype=np.uint8)
        flat = {"meta": meta} | {f"s.{k}": v for k, v in self.state.items()} | {f"x.{k}": v for k, v in self.extra.items()}
        np.savez_compressed(buffer, **flat)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """The inverse of :meth:`to_bytes`; never unpickles."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            meta = Meta(**json.loads(arrays["meta"].tobytes()))
            parts = {p: {k[2:]: arrays[k] for k in arrays.files if k.startswith(p)} for p in ("s.", "x.")}
        return cls(meta, parts["s."], parts["x."])


@dataclass(frozen=True)
class StateLog:
    """The states of one learner in `folder`, a folder of its own below `learners`."""

    learners: Folder
    name: str

    @property
    def folder(self) -> Folder:
        """The learner's own folder."""
        return self.learners.below(self.name)

    @property
    def commands(self) -> Commands:
        """What people ask of this learner."""
        return Commands(self.folder)

    @property
    def has_begun(self) -> bool:
        """Whether a batch has been learned, or at least begun."""
        return self.learners.read(f"{self.name}.started") is not None

    def forget(self) -> None:
        """Delete every state: the next batch begins anew. For a person's command alone, while no job runs."""
        # The mark last: without its states it is an error, so a crash in between is one that says what to do.
        for name in self.folder.names():
            self.folder.delete(name)
        self.learners.delete(f"{self.name}.started")

    def begin(self, batch: int, start: Snapshot) -> None:
        """Make sure the log has a state to start from when `batch` is about to run.

        A learner that is new to the job starts here, whatever number the batch has. StateError when it is not new
        but its states are gone: going on from the start would silently forget all it has learned.
        """
        mark = f"{self.name}.started"
        first = self.learners.read(mark)
        if first is None:
            self.folder.create(_START, start.to_bytes())
            self.learners.create(mark, str(batch).encode())

    def get(self, batch: int) -> Snapshot:
        """The state after `batch`. StateError when it is not there: never a silent restart."""
        first = self.learners.read(f"{self.name}.started")
        content = self.folder.read(_START if first is not None and batch == int(first) - 1 else _file(batch))
        if content is None:
            raise StateError(
                f"learner {self.name}: no state after batch {batch}; expected the file {_file(batch)} in learners/{self.name} of the state folder; "
                "restore the folder from a backup, or delete both learners/ and checkpoints/learn to learn again from the topics' start"
            )
        return Snapshot.from_bytes(content)

    def start(self) -> Snapshot | None:
        """The state before the first batch; None when the learner has not begun."""
        content = self.folder.read(_START)
        return None if content is None else Snapshot.from_bytes(content)

    def add(self, batch: int, snapshot: Snapshot) -> bool:
        """Write the state after `batch`; False, and nothing changed, when somebody already has."""
        return self.folder.create(_file(batch), snapshot.to_bytes())

    def batches(self) -> list[int]:
        """The batches whose states are kept, oldest first; the start is not among them."""
        return [int(name[:-4]) for name in self.folder.names() if name.endswith(".npz") and name != _START]

    def newest(self) -> Snapshot | None:
        """The newest state, or the start; None when there is neither. For people and for publishing, never for learning."""
        batches = self.batches()
        content = self.folder.read(_file(batches[-1]) if batches else _START)
        return None if content is None else Snapshot.from_bytes(content)

    def version(self, version: str) -> Snapshot:
        """The state whose weights are `version`; WARM is the start. StateError lists the versions that are kept."""
        snapshot = self.find(version)
        if snapshot is None:
            kept = self.batches()
            listed = ", ".join(map(str, kept[-10:])) or "none"
            raise StateError(
                f"learner {self.name}: no version {version!r} is kept; the newest of {len(kept)}: {listed} (streaming versions shows all)"
            )
        return snapshot

    def find(self, version: str) -> Snapshot | None:
        """As :meth:`version`, but None when it is not kept."""
        # Batches without labels carry the version on: the first state that is left may be a later one with the same weights.
        first = next((batch for batch in self.batches() if version.isdigit() and batch >= int(version)), None)
        snapshot = self.start() if version == WARM else None if first is None else self.get(first)
        return snapshot if snapshot is not None and snapshot.meta.version == version else None

    def thin(self, newest: int, *, spare: Collection[int] = ()) -> None:
        """Drop old states: all of the newest KEPT_WHOLE stay, of the next as many every 2nd, then every 4th, and so on; and `spare`."""
        for batch in self.batches():
            if not keeps(batch, newest) and batch not in spare:
                self.folder.delete(_file(batch))


def keeps(batch: int, newest: int) -> bool:
    """Whether the state after `batch` is kept when the newest is that of `newest`."""
    age = newest - batch
    step = 1 << max(0, (age // KEPT_WHOLE).bit_length())
    return age < KEPT_WHOLE or batch % step == 0


def _file(batch: int) -> str:
    return f"{batch:010d}.npz"
