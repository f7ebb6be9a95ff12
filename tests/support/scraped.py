"""A real Prometheus over a job: it scrapes every second, judges the project's own rules, and is asked as a dashboard asks it."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streaming.embedded.process import free_port
from tests.support.job import wait_until

ROOT = Path(__file__).parents[2]


def prometheus() -> str | None:
    """Where Prometheus is on this machine (`bash scripts/promtool.sh` puts it into .cache/bin); None: nowhere."""
    return shutil.which("prometheus") or shutil.which("prometheus", path=ROOT / ".cache" / "bin")


@dataclass(frozen=True)
class Scraper:
    """A Prometheus that answers."""

    url: str

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=30) as response:
            told = json.load(response)
        assert told["status"] == "success", told
        return list(told["data"]["result"])


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Scraper]:
    """A Prometheus that scrapes `target` (HOST:PORT) as the job `churn`, until the block ends."""
    tool, port = prometheus(), free_port()
    assert tool is not None
    tree = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yaml").read_text())
    tree["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    tree["rule_files"] = [str(ROOT / "docker" / "prometheus" / name) for name in tree["rule_files"]]
    tree["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    folder.mkdir(parents=True)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(tree))
    where = [
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([tool, *where], stdout=log, stderr=log)
    scraper = Scraper(f"http://127.0.0.1:{port}")

    def scraped() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            return any(series["value"][1] == "1" for series in scraper.ask("up"))
        except OSError:
            return False

    try:
        wait_until(scraped, "Prometheus has scraped the job")
        yield scraper
    finally:
        process.terminate()
        process.wait(30)
