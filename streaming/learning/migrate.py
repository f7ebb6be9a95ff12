"""What a person decides when a learner's states do not fit any more: take them along, or begin anew. Only while no job learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from streaming.config.load import Config
from streaming.errors import StateError, TransientError
from streaming.learning import origin
from streaming.learning.state_log import Ends, Snapshot
from streaming.learning.teach import Learning
from streaming.runtime.claim import claim
from streaming.runtime.files import Folder


@dataclass(frozen=True)
class Outcome:
    """What became of a learner: the version it goes on with (None: it begins anew), and where its labels are read on from."""

    version: str | None
    starting: Ends


def reset(learning: Learning, state: Folder) -> None:
    """Forget every state of a learner; it begins anew with the next batch, under numbers that were never used."""
    with _alone(learning, state):
        known = origin.read(learning.log.learners, learning.name)
        newest = max(learning.log.batches(), default=-1)
        upcoming = origin.next_batch(_checkpoint(state))
        # Versions stay unique: a prediction that names one of before never means one of after.
        shift = max(known.shift, newest + 1 - upcoming, 0)
        # First where it goes on, then the states: a crash in between leaves states that do not fit, which is an error and no mistake.
        origin.write(learning.log.learners, learning.name, origin.Origin(shift=shift, starting=known.starting))
        learning.log.forget()


def migrate(config: Config, learning: Learning, state: Folder, *, labels_from: str | None = None) -> Outcome:
    """Let the newest state be what the next batch is learned from, whatever checkpoint, model or parameters there are now.

    `labels_from`: "earliest" or "latest", for states that do not say how far they had read; used only where there is no
    checkpoint. StateError when there is nothing to take along, or when it cannot be told which labels were learned.
    """
    with _alone(learning, state):
        newest = learning.log.newest()
        if newest is None:
            raise StateError(f"learner {learning.name}: has no state to take along; just start the job")
        _fits(learning, newest)
        checkpoint = _checkpoint(state)
        query, upcoming = origin.query_of(checkpoint), origin.next_batch(checkpoint)
        if query is not None:
            _not_behind(learning, newest, origin.ends(checkpoint, upcoming - 1))
            starting: Mapping[str, Mapping[str, int]] = {}
        else:
            starting = _labels_after(config, learning, newest, labels_from)
        shift = newest.meta.batch + 1 - upcoming
        origin.write(learning.log.learners, learning.name, origin.Origin(query, shift, learning.learned_on, starting))
        return Outcome(newest.meta.version, starting)


def _checkpoint(state: Folder) -> Folder:
    return state.below("checkpoints").below("learn")


@contextmanager
def _alone(learning: Learning, state: Folder) -> Iterator[None]:
    """No job learns within the block, and none begins to: it would learn from states that are being changed."""
    with ExitStack() as held:
        try:
            held.enter_context(claim(state, "learn"))
        except TransientError as taken:
            raise StateError(f"learner {learning.name}: a job learns in this state folder; stop it first, then ask again") from taken
        yield


def _fits(learning: Learning, newest: Snapshot) -> None:
    """The configured learner can read the state."""
    try:
        learning.weights(newest)
    except (ValueError, KeyError) as other:
        raise StateError(
            f"learner {learning.name}: its states are not those of {type(learning.learner).__name__}, which the configuration names now: {other}; "
            f"take the change back, or begin anew: streaming learner reset CONFIG {learning.name}"
        ) from other


def _not_behind(learning: Learning, newest: Snapshot, checkpoint: Ends) -> None:
    """The checkpoint has read at least as far as the newest state; else its next batches would bring labels a second time."""
    behind = sorted(
        topic
        for topic, read in newest.read_to.items()
        if any(offset > checkpoint.get(topic, {}).get(partition, offset) for partition, offset in read.items())
    )
    if behind:
        raise StateError(
            f"learner {learning.name}: checkpoints/learn is older than the newest state ({', '.join(behind)}): it would read labels again that were "
            f"learned; delete checkpoints/learn and ask again: the new one then begins where the newest state ended"
        )


def _labels_after(config: Config, learning: Learning, newest: Snapshot, labels_from: str | None) -> Ends:
    """Where labels are read on from when there is no checkpoint: after those that the newest state knows."""
    assert config.labels is not None
    topic = config.labels.topic or config.topic_of(learning.name)
    read = newest.read_to.get(topic)
    if labels_from is not None:
        return {} if labels_from == "earliest" else {topic: {}}
    if not read:
        raise StateError(
            f"learner {learning.name}: its newest state is from before states said how far they had read, and checkpoints/learn is gone; say which labels "
            f"to read: --labels-from latest (those of meanwhile are not learned) or --labels-from earliest (all that {topic} has are learned again)"
        )
    return {topic: read}


def starting_offsets(learners: list[Learning], topic: str, partitions: int) -> Ends | None:
    """Where a new checkpoint begins to read a topic: partition -> offset (-2: its start, -1: its end). None: from the start.

    Of several learners the one that had read furthest decides: a label is never learned twice.
    """
    said = [origin.read(learning.log.learners, learning.name).starting for learning in learners]
    known = [starting[topic] for starting in said if topic in starting]
    if not known:
        return None
    if any(not offsets for offsets in known):
        return {topic: {str(partition): -1 for partition in range(partitions)}}
    furthest = {str(p): max((offsets.get(str(p), -2) for offsets in known), default=-2) for p in range(partitions)}
    return {topic: furthest}
