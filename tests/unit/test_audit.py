"""The audit log: what is in it cannot be changed unseen, and what cannot be recorded is not done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from streaming import config, secrets
from streaming.cli.audit import audit as command
from streaming.errors import StateError
from streaming.runtime import audit
from streaming.runtime.audit import Act, AuditLog, Broken, verify
from tests.support.smallest import smallest

ACT = Act("train", "m", "ada")
TREE = smallest("nowhere")


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    made = AuditLog(tmp_path / "deep" / "audit.jsonl")
    for i in range(5):
        made.append(Act("rollback", f"learner {i}", "ada", before="1", after="2"), result="done")
    return made


def lines(log: AuditLog) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.lines()]


def test_every_line_says_who_what_before_after_and_result(log: AuditLog) -> None:
    line = lines(log)[3]
    assert [line[name] for name in ("seq", "actor", "action", "about", "before", "after", "result")] == [
        4, "ada", "rollback", "learner 3", "1", "2", "done",
    ]  # fmt: skip
    assert verify(log).broken == ()
    assert (verify(log).records, verify(log).head) == (5, lines(log)[-1]["hash"])
    assert log.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("attack", "where"),
    [
        (lambda text: [*text[:2], text[2].replace("ada", "eve"), *text[3:]], 3),
        (lambda text: [*text[:2], *text[3:]], 3),
        (lambda text: [*text[:1], text[2], text[1], *text[3:]], 2),
        (lambda text: [*text[:3], text[2], *text[3:]], 4),
        (lambda text: text[1:], 1),
        (lambda text: [*text[:4], text[4].replace('"result":"done"', '"result":"fine"')], 5),
        (lambda text: [*text[:2], "", *text[3:]], 3),
        (lambda text: [*text[:2], "[" * 10_000, *text[3:]], 3),
    ],
    ids=["changed", "taken out", "exchanged", "twice", "the first taken out", "the last changed", "made empty", "made nonsense"],
)
def test_a_broken_chain_says_where(log: AuditLog, attack: object, where: int) -> None:
    log.path.write_text("\n".join(attack(log.path.read_text().splitlines())) + "\n")  # type: ignore[operator]
    verdict = verify(log)
    assert next(each.line for each in verdict.broken) == where
    assert verdict.cut == ()
    log.append(Act("train", "m", "bob"), result="done")  # going on hides nothing
    assert verify(log).broken


def test_a_cut_end_and_a_chain_written_anew_are_told_by_a_hash_that_was_kept(log: AuditLog) -> None:
    kept = str(lines(log)[-1]["hash"])
    assert verify(log, head=kept).knows_head
    log.append(Act("train", "m", "bob"), result="done")
    assert verify(log, head=kept).knows_head
    log.path.write_text("".join(f"{line}\n" for line in log.path.read_text().splitlines()[:3]))
    assert verify(log).broken == ()
    assert not verify(log, head=kept).knows_head


def test_a_line_that_a_crash_cut_is_said_to_be_one_and_the_chain_goes_on(log: AuditLog) -> None:
    text = log.path.read_bytes()
    log.path.write_bytes(text[:-30])
    assert verify(log).broken == (Broken(5, audit._NO_RECORD),)  # nobody has said yet that it was a crash
    log.append(Act("train", "m", "bob"), result="done")
    assert [line["action"] for line in lines(AuditLog(_without(log.path, 5)))][-2:] == ["mended", "train"]
    verdict = verify(log)
    assert (verdict.broken, verdict.cut, verdict.records) == ((), (5,), 6)
    log.path.write_bytes(text[:-1])  # nothing is lost but the end of the line
    log.append(Act("train", "m", "bob"), result="done")
    assert (verify(log).broken, verify(log).cut, verify(log).records) == ((), (), 6)


def _without(path: Path, number: int) -> Path:
    other = path.with_suffix(".other")
    text = path.read_text().splitlines()
    other.write_text("\n".join(text[: number - 1] + text[number:]) + "\n")
    return other


def test_many_writers_make_one_chain(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: AuditLog(log.path).append(Act("predict", str(i), "x"), result="done"), range(60)))
    script = "import sys; from pathlib import Path; from streaming.runtime.audit import *\nfor i in range(20): AuditLog(Path(sys.argv[1])).append(Act('a', 'b', 'c'), result='done')"
    started = [subprocess.Popen([sys.executable, "-c", script, str(log.path)], env=os.environ) for _ in range(2)]
    assert [each.wait(60) for each in started] == [0, 0]
    assert (verify(log).records, verify(log).broken) == (100, ())


def test_what_cannot_be_recorded_is_not_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    done = []
    demanded = AuditLog(tmp_path / "file" / "audit.jsonl")
    with pytest.raises(StateError, match=r"audit log cannot be written.*what is not recorded is not done"), demanded.recorded(ACT):
        done.append("trained")
    assert done == []
    with AuditLog(tmp_path / "file" / "audit.jsonl", demanded=False).recorded(ACT):
        done.append("trained")
    assert done == ["trained"]
    assert "train of m by ada is not recorded" in caplog.text


def test_a_failure_is_recorded_without_secrets_and_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_process", secrets.Redactor())
    secrets.remember("hush-hush")
    log = AuditLog(tmp_path / "audit.jsonl")
    with pytest.raises(ZeroDivisionError), log.recorded(Act("train", "m", "ada")):
        raise ZeroDivisionError("of hush-hush " + "x" * 10_000)
    begun, failed = lines(log)
    assert (begun["result"], str(failed["result"])[:40]) == ("begun", "failed: ZeroDivisionError: of *** " + "x" * 6)
    assert len(str(failed["result"])) < 3_000


def test_a_full_disk_leaves_no_half_of_a_line(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(StateError, match="no space left"):
        log.append(Act("train", "m", "ada"), result="done")
    assert (verify(log).records, verify(log).broken) == (5, ())


def test_the_operator_cannot_take_the_place_of_another() -> None:
    assert audit.operator("eve").startswith("eve (")
    assert audit.operator("eve").endswith(f"({audit.operator()})")


def test_where_the_log_is(tmp_path: Path) -> None:
    def of(**changes: str) -> AuditLog | None:
        return audit.of(config.parse(TREE | {"state": str(tmp_path)} | changes))

    assert of() == AuditLog(tmp_path / "audit.jsonl", demanded=False)
    assert of(state="s3a://bucket/state") is None
    assert of(state="s3a://bucket/state", audit=str(tmp_path / "a")) == AuditLog(tmp_path / "a", demanded=True)


def test_the_command_says_where_it_is_broken(log: AuditLog, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(TREE | {"state": str(tmp_path), "audit": str(log.path)}))
    shown = CliRunner().invoke(command, ["show", str(path), "-n", "2"])
    assert [json.loads(line)["about"] for line in shown.output.splitlines()] == ["learner 3", "learner 4"]
    well = CliRunner().invoke(command, ["verify", str(path)])
    assert f"5 records, unbroken; the newest hash is {verify(log).head}" in well.output
    log.path.write_text(log.path.read_text().replace("learner 1", "learner 9"))
    with pytest.raises(StateError, match="the chain is broken:\n  line 2: is no record"):
        CliRunner().invoke(command, ["verify", str(path)], catch_exceptions=False)
    with pytest.raises(StateError, match="the chain is broken"):
        CliRunner().invoke(command, ["verify", str(path), "--head", "0" * 64], catch_exceptions=False)
