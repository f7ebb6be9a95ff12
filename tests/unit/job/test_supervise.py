"""Lanes under supervision, with queries that die on demand and a clock that is turned by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from streaming.errors import BrokerUnavailable, LaneDied, StateError, StoreError, StoreUnavailable, StreamingError
from streaming.job.supervise import Lane, Supervisor
from streaming.monitor import status


class Clock:
    """What `time` is for the code under test: it moves only when told. The time of day may jump, pauses must not care."""

    def __init__(self) -> None:
        self.steady, self.day = 1_000.0, 1_700_000_000.0

    def monotonic(self) -> float:
        return self.steady

    def time(self) -> float:
        return self.day

    def sleep(self, seconds: float) -> None:
        self.steady += seconds
        self.day += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr("streaming.job.supervise.time", turned)
    return turned


class Puppet:
    """A lane whose query dies when it is told to, and starts as often as it may."""

    def __init__(self, name: str, *, vital: bool = False) -> None:
        self.starts = 0
        self.fails_to_start: BaseException | None = None
        self.lane = Lane(name, f"{name}-topic", self.begin, vital=vital)

    def begin(self, on_error: Callable[[BaseException], None]) -> Any:
        self.starts += 1
        if self.fails_to_start is not None:
            raise self.fails_to_start
        self.on_error = on_error
        self.query = SimpleNamespace(isActive=True)
        return self.query

    def die(self, error: StreamingError) -> None:
        self.on_error(error)
        self.query.isActive = False


@pytest.fixture
def score() -> Puppet:
    return Puppet("score", vital=True)


@pytest.fixture
def store() -> Puppet:
    return Puppet("store")


def supervise(*puppets: Puppet, on_failure: Any = "continue", alive: Callable[[], bool] = lambda: True) -> Supervisor:
    supervisor = Supervisor([puppet.lane for puppet in puppets], on_failure=on_failure, is_alive=alive)
    supervisor.start()
    look(supervisor)
    return supervisor


def look(supervisor: Supervisor) -> dict[str, status.Status]:
    """Look once; attempts to start have come to their end before and after it."""
    settled(supervisor)
    seen = {each.lane: each for each in supervisor.look()}
    settled(supervisor)
    return seen


def settled(supervisor: Supervisor) -> None:
    for lane in supervisor.lanes:
        if lane._attempt is not None:
            lane._attempt.exception(timeout=10)


def states(supervisor: Supervisor) -> dict[str, str]:
    return {lane: each.state for lane, each in look(supervisor).items()}


def test_a_transient_death_is_restarted_while_the_others_go_on(clock: Clock, score: Puppet, store: Puppet) -> None:
    supervisor = supervise(score, store)
    assert states(supervisor) == {"score": "running", "store": "running"}
    store.die(StoreUnavailable("the database is gone"))
    dead = look(supervisor)["store"]
    assert (dead.state, dead.error) == ("waiting", "StoreUnavailable")
    assert "the database is gone" in dead.why
    assert states(supervisor)["score"] == "running"
    clock.sleep(dead.retry_at - clock.day + 0.01)
    look(supervisor)
    assert store.starts == 2
    assert states(supervisor)["store"] == "starting"  # not proven yet
    clock.sleep(status.PROVEN_AFTER_S)
    back = look(supervisor)["store"]
    assert (back.state, back.error, back.restarts) == ("running", "", 1)
    assert score.starts == 1


def test_pauses_grow_and_end_at_their_longest(clock: Clock, score: Puppet, store: Puppet) -> None:
    supervisor, pauses = supervise(score, store), []
    first = clock.day
    for _ in range(8):
        store.die(StoreUnavailable("gone"))
        dead = look(supervisor)["store"]
        assert dead.since == first  # since the first death, not since the newest attempt
        pauses.append(round(dead.retry_at - clock.day))
        clock.sleep(pauses[-1] - 0.5)
        assert states(supervisor)["store"] == "waiting"
        clock.sleep(0.6)
        look(supervisor)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("how", ["lived for a while", "finished a batch"])
def test_a_lane_that_ran_well_starts_again_with_short_pauses(clock: Clock, score: Puppet, store: Puppet, how: str) -> None:
    supervisor = supervise(score, store)
    for _ in range(6):
        store.die(StoreUnavailable("gone"))
        clock.sleep(look(supervisor)["store"].retry_at - clock.day + 0.1)
        look(supervisor)
    look(supervisor)
    if how == "finished a batch":
        supervisor.lanes[1].has_advanced = True
    else:
        clock.sleep(status.STEADY_S)
    look(supervisor)
    store.die(StoreUnavailable("gone\n\tagain"))
    dead = look(supervisor)["store"]
    assert dead.retry_at - clock.day == pytest.approx(status.FIRST_PAUSE_S)
    assert dead.why == "lane store: gone again"  # one line


def test_what_nobody_has_classified_waits_longer_but_for_the_lane_that_matters(clock: Clock, score: Puppet, store: Puppet) -> None:
    supervisor = supervise(score, store)
    for puppet, longest in ((store, status.UNKNOWN_PAUSE_S), (score, status.OUTAGE_PAUSE_S)):
        for _ in range(14):
            puppet.die(LaneDied("a bug"))
            pause = look(supervisor)[puppet.lane.name].retry_at - clock.day
            clock.sleep(pause + 0.1)
            look(supervisor)
        look(supervisor)
        assert pause == pytest.approx(longest)


def test_a_clock_that_is_set_back_changes_no_pause(clock: Clock, score: Puppet, store: Puppet) -> None:
    supervisor = supervise(score, store)
    store.die(StoreUnavailable("gone"))
    look(supervisor)
    clock.day -= 86_400.0
    clock.steady += 1.1
    look(supervisor)
    assert store.starts == 2


def test_a_terminal_death_stays_down_and_the_others_go_on(
    clock: Clock, score: Puppet, store: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = supervise(score, store)
    store.die(StoreError("the table has other columns"))
    assert look(supervisor)["store"].state == "down"
    clock.sleep(599)
    assert states(supervisor) == {"score": "running", "store": "down"}
    assert store.starts == 1
    assert caplog.text.count("state=down") == 1
    clock.sleep(2)
    look(supervisor)
    assert caplog.text.count("state=down") == 2  # said again, for whoever reads only the newest lines


def test_the_job_ends_with_the_lane_that_it_is_for(clock: Clock, score: Puppet, store: Puppet) -> None:
    supervisor = supervise(score, store)
    score.die(BrokerUnavailable("away"))
    assert states(supervisor)["score"] == "waiting"
    clock.sleep(2)
    look(supervisor)
    score.die(StateError("offsets are gone"))
    with pytest.raises(StateError, match="lane score: offsets are gone"):
        look(supervisor)


def test_without_that_lane_the_job_ends_when_all_are_down(clock: Clock, store: Puppet) -> None:
    learn = Puppet("learn")
    supervisor = supervise(store, learn)
    store.die(StoreError("refuses"))
    assert states(supervisor) == {"store": "down", "learn": "running"}
    learn.die(StateError("no state"))
    with pytest.raises(StateError):
        look(supervisor)


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), StoreError("refuses")])
def test_asked_to_stop_the_first_death_ends_the_job(clock: Clock, score: Puppet, store: Puppet, error: StreamingError) -> None:
    supervisor = supervise(score, store, on_failure="stop")
    store.die(error)
    with pytest.raises(type(error)):
        look(supervisor)


def test_a_lane_that_cannot_be_started_is_tried_again(clock: Clock, score: Puppet, store: Puppet) -> None:
    store.fails_to_start = StoreUnavailable("no connection")
    supervisor = supervise(score, store)
    assert states(supervisor) == {"score": "running", "store": "waiting"}
    clock.sleep(1.1)
    look(supervisor)
    store.fails_to_start = None
    assert look(supervisor)["store"].state == "waiting"
    clock.sleep(2.1)
    look(supervisor)
    look(supervisor)
    clock.sleep(status.PROVEN_AFTER_S)
    assert look(supervisor)["store"].state == "running"


def test_an_attempt_that_takes_its_time_holds_nobody_up(score: Puppet, store: Puppet) -> None:
    slow = Lane("store", "t", lambda on_error: time.sleep(0.5))  # type: ignore[arg-type, return-value]
    supervisor = Supervisor([slow, score.lane], on_failure="continue", is_alive=lambda: True)
    began = time.monotonic()
    supervisor.start()
    supervisor.look()
    assert time.monotonic() - began < 0.4
    supervisor.settle()


def test_a_lane_dead_again_at_once_never_counts_as_running(clock: Clock, score: Puppet, store: Puppet) -> None:
    supervisor, seen = supervise(score, store), set()
    for _ in range(6):
        store.die(StoreUnavailable("gone"))
        look(supervisor)
        clock.sleep(31)
        seen |= {states(supervisor)["store"], states(supervisor)["store"]}
    assert seen == {"starting"}


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_when_spark_itself_is_gone_the_job_ends_to_be_started_again(clock: Clock, score: Puppet, store: Puppet, how: str) -> None:
    supervisor = supervise(score, store, alive=lambda: False)
    if how == "stopped":
        store.die(LaneDied("the context was shut down"))
    else:

        class Gone:
            @property
            def isActive(self) -> bool:
                raise ConnectionRefusedError

        supervisor.lanes[1].query = Gone()  # type: ignore[assignment]
    with pytest.raises(LaneDied, match="restart it"):
        look(supervisor)
