"""No secret of the configuration is on a command line, in Spark's log or in its event log: a Spark of its own, with one planted everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from streaming import secrets
from streaming.errors import ConfigError
from streaming.runtime import spark
from tests.support.planted import SECRET, where_it_stands

_SCRIPT = """
import os, sys
from pathlib import Path
from streaming import secrets
from streaming.runtime import session

folder, secret = Path(sys.argv[1]), os.environ["PLANTED"]
odd = f"\\\\E{secret[::-1]}\\\\E"
secrets.remember(secret)
secrets.remember(odd)
secrets.remember("cru")
secrets.install_hooks()
options = {
    "spark.ui.enabled": "false",
    "spark.driver.memory": "512m",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.dir": f"file:{folder}/events",
    "spark.eventLog.compress": "false",
    "spark.hadoop.fs.s3a.secret.key": secret,
    "spark.hadoop.fs.azure.account.key.x.dfs.core.windows.net": secret,
    "spark.hadoop.a.jaas": secret,
    "spark.some.password": secret,
    "spark.hadoop.vendor.setting": secret,  # named like no secret
    "spark.vendor.setting": f"a {odd} b",
    "spark.vendor.other": "ecru",
}
with_spark = session.start("planted", master="local[1]", options=options, log=folder / "spark.log")
assert with_spark.sparkContext._jsc.hadoopConfiguration().get("fs.s3a.secret.key") == secret
log = with_spark._jvm.org.apache.log4j.LogManager.getLogger("planted")
log.warn("in the log of Spark: " + secret)
with_spark._jvm.java.lang.System.err.println("beside the log: " + secret)
stream = (
    with_spark.readStream.format("kafka").option("subscribe", "t").option("kafka.bootstrap.servers", "localhost:1")
    .option("kafka.security.protocol", "SASL_PLAINTEXT").option("kafka.sasl.mechanism", "PLAIN").option("kafka.default.api.timeout.ms", "200")
    .option("kafka.sasl.jaas.config", f'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="{secret}";')
    .option("kafka.ssl.keystore.key", secret).load()
)
query = stream.writeStream.format("noop").option("checkpointLocation", f"{folder}/checkpoint").start()
with_spark.range(10).selectExpr("sum(id)").collect()
print("ready", flush=True)
sys.stdin.readline()
query.stop()
with_spark.stop()
raise ValueError("at the end " + secret)
"""


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return ""


def test_a_secret_is_in_no_log_no_event_and_on_no_command_line(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PLANTED": SECRET}
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        processes = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
        lines = [line for each in processes if (line := command_line(each))]
        _, said = started.communicate("\n", timeout=120)
    assert any("SparkSubmit" in line for line in lines)
    assert not [line for line in lines if SECRET in line]
    assert "at the end ***" in said
    assert SECRET not in said
    log = (tmp_path / "spark.log").read_text()
    assert "in the log of Spark: ***" in log
    assert "beside the log: ***" in log
    assert (tmp_path / "spark.log").stat().st_mode & 0o077 == 0
    events = "".join(path.read_text(errors="replace") for path in (tmp_path / "events").rglob("events_*"))
    assert "fs.s3a.secret.key" in events
    assert '"spark.vendor.setting":"*********(redacted)"' in events
    assert '"spark.vendor.other":"ecru"' in events
    assert where_it_stands(tmp_path) == []


@pytest.mark.parametrize("key", ["spark.driver.extraJavaOptions", "spark.jars.repositories"])
def test_a_secret_on_the_command_line_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_process", secrets.Redactor())
    secrets.remember(SECRET)
    with pytest.raises(ConfigError, match=f"{key}: holds a secret.*JDK_JAVA_OPTIONS=@FILE") as refused:
        spark.on_command_line({key: f"-Dx={SECRET}"})
    assert SECRET not in str(refused.value)
    assert spark.on_command_line({"spark.hadoop.fs.s3a.secret.key": SECRET, "spark.driver.memory": "1g"}) == {"spark.driver.memory": "1g"}
