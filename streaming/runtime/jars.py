"""The pinned JVM artifacts of conf/jars.xml, fetched once with the Ivy inside pyspark and kept in a cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, get_args
from xml.etree import ElementTree

from streaming.errors import EnvironmentFailure
from streaming.runtime import java

log = logging.getLogger(__name__)

Conf = Literal["spark", "broker"]
CONFS: Final[tuple[Conf, ...]] = get_args(Conf)
#: Names and sizes of a folder's jars, written last: a folder without it, or short of it, is fetched again.
_LISTING: Final = "jars.txt"
#: The sha256 of every jar, whoever's mirror it comes from; written anew by `python -m streaming.runtime.jars --pin`.
_PINS: Final = "jars.sha256"
#: The first fetch takes about a minute, nearly all of it look-ups one after the other; then the network is too slow.
_FETCH_WITHIN_S: Final = 900
#: A file in Ivy's own format, for a mirror that wants a password or another address.
_SETTINGS_VARIABLE: Final = "STREAMING_IVY_SETTINGS"
_PACKAGE: Final = Path(__file__).resolve().parents[1]


def resolve(conf: Conf) -> list[Path]:
    """The jars of one conf, sorted by name; fetched on first use, from the cache folder after that.

    Safe to call from several processes at once: one fetches, the others wait. Raises EnvironmentFailure when Java or
    the network is missing; nothing half-fetched is left behind.
    """
    return resolve_all((conf,))[conf]


def resolve_all(confs: Sequence[Conf] = CONFS) -> dict[Conf, list[Path]]:
    """Like `resolve`, for several confs with one run of Ivy."""
    resolved = _fetched(confs)
    for paths in resolved.values():
        verify(paths)
    return resolved


def _fetched(confs: Sequence[Conf] = CONFS) -> dict[Conf, list[Path]]:
    """The jars as they lie in the cache folder, fetched if need be."""
    descriptor = conf_file("jars.xml")
    folder = _cache_folder(descriptor)
    if any(_complete(folder / conf) is None for conf in confs):
        with _lock(user_cache() / "ivy.lock"):
            missing = [conf for conf in confs if _complete(folder / conf) is None]
            if missing:
                _fetch(missing, descriptor, folder)
    return {conf: _complete(folder / conf) or [] for conf in confs}


def verify(paths: Iterable[Path]) -> None:
    """EnvironmentFailure unless every jar has the sha256 that conf/jars.sha256 says. In one process each file is read once."""
    pinned = pins(conf_file(_PINS))
    for path in paths:
        stat = path.stat()
        got, expected = _sha256(path, stat.st_size, stat.st_mtime_ns), pinned.get(path.name)
        if got != expected:
            raise EnvironmentFailure(
                f"{path}: sha256 {got}, expected {expected or 'no such jar'} by conf/{_PINS}: the file was changed, or comes from a mirror that "
                f"serves another; nothing of it was loaded. Remove {path.parent} and run the same command again; if it is the same then, "
                "do not trust the mirror. Pins that you changed yourself (jars.xml): python -m streaming.runtime.jars --pin"
            )


def pins(file: Path) -> dict[str, str]:
    """Name of each jar -> its sha256, from lines as `sha256sum` prints them."""
    entries = (line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))
    return {name.strip(): digest for digest, name in entries}


def descriptor_coordinates() -> dict[str, tuple[str, str, str]]:
    """File name of each jar that jars.xml names itself -> its Maven group, name and version."""
    named = ElementTree.parse(conf_file("jars.xml")).getroot().findall("dependencies/dependency")
    return {
        f"{each.attrib['name']}-{each.attrib['rev']}.jar": (each.attrib["org"], each.attrib["name"], each.attrib["rev"]) for each in named
    }


@cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """Of a file that has this size and time: some 20 MB for a session, read once in a process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pin(resolved: Mapping[Conf, Sequence[Path]]) -> str:
    """The text of conf/jars.sha256 for these jars."""
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for paths in resolved.values() for path in paths}
    lines = (f"{digests[name]}  {name}\n" for name in sorted(digests))
    return "# The jars of jars.xml and all that they bring. Checked when they are fetched and at every start.\n" + "".join(lines)


def conf_file(name: str) -> Path:
    """A file of conf/: beside the package in a checkout, under share/ of the environment when installed."""
    places = (_PACKAGE.parent / "conf" / name, Path(sys.prefix) / "share" / "streaming-scoring" / "conf" / name)
    for place in places:
        if place.is_file():
            return place
    raise EnvironmentFailure(
        f"conf/{name} is missing: looked for {' and '.join(map(str, places))}; reinstall the package, or run from a checkout"
    )


def user_cache() -> Path:
    """Where this user's copies of what can be made or fetched again are kept, over all checkouts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streaming-scoring"


def _cache_folder(descriptor: Path) -> Path:
    """One folder per content of jars.xml, so that a changed pin can never meet yesterday's jars."""
    version = hashlib.sha256(descriptor.read_bytes()).hexdigest()[:16]
    checkout = descriptor.parent.parent == _PACKAGE.parent
    return (_PACKAGE.parent / ".cache" if checkout else user_cache()) / "jars" / version


def _complete(folder: Path) -> list[Path] | None:
    """The jars in the folder, or None if one is missing or cut short."""
    with suppress(FileNotFoundError):
        entries = [line.split(" ", 1) for line in (folder / _LISTING).read_text(encoding="utf-8").splitlines()]
        if entries and all((folder / name).stat().st_size == int(size) for size, name in entries):
            return [folder / name for _, name in entries]
    return None


def _fetch(confs: Sequence[Conf], descriptor: Path, folder: Path) -> None:
    """Fetch into a new folder beside the final one, then rename: a reader sees all jars of a conf or none."""
    log.info("fetching the pinned jars (%s): about a minute the first time on this machine", ", ".join(confs))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    except OSError as refused:
        raise EnvironmentFailure(f"{folder}: the cache for jars cannot be written: {refused}; make it writable") from refused
    try:
        _run_ivy(confs, descriptor, new)
        for conf in confs:
            jars = sorted((new / conf).glob("*.jar"))
            (new / conf / _LISTING).write_text("".join(f"{jar.stat().st_size} {jar.name}\n" for jar in jars), encoding="utf-8")
            if (folder / conf).exists():
                (folder / conf).rename(new / f"{conf}.broken")
            (new / conf).rename(folder / conf)
            log.info("conf=%s jars=%d folder=%s", conf, len(jars), folder / conf)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _run_ivy(confs: Sequence[Conf], descriptor: Path, target: Path) -> None:
    command = [str(java.java_command()), "-jar", str(_ivy_jar()), "-ivy", str(descriptor), "-cache", str(user_cache() / "ivy")]
    command += ["-confs", *confs, "-retrieve", f"{target}/[conf]/[artifact]-[revision].[ext]"]
    if settings := os.environ.get(_SETTINGS_VARIABLE):
        command += ["-settings", settings]
    # What was fetched stays in Ivy's cache, so a second try after a dropped connection goes on where the first stopped.
    for attempt in (1, 2):
        code, tail = _follow(command)
        if code == 0:
            return
        log.info("attempt=%d fetching the jars failed with exit code %d", attempt, code)
    raise EnvironmentFailure(_explain(tail))


def _follow(command: list[str]) -> tuple[int, list[str]]:
    """Run Ivy, log what it downloads, and give back its exit code and its last lines."""
    tail: deque[str] = deque(maxlen=400)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace"
    ) as ivy:
        limit = threading.Timer(_FETCH_WITHIN_S, ivy.kill)
        limit.start()
        try:
            assert ivy.stdout is not None
            for count, line in _numbered(ivy.stdout, tail, "[SUCCESSFUL ]"):
                log.info("jars: %d downloaded, last %s", count, line.split("!")[-1].split(" ")[0].strip())
        except BaseException:
            ivy.kill()
            raise
        finally:
            limit.cancel()
    return ivy.returncode, list(tail)


def _numbered(lines: Iterable[str], tail: deque[str], marker: str) -> Iterator[tuple[int, str]]:
    """Every tenth line with the marker, and how many there have been."""
    count = 0
    for line in lines:
        tail.append(line.rstrip())
        if marker in line:
            count += 1
            if count % 10 == 0:
                yield count, line


def _explain(tail: list[str]) -> str:
    unresolved = [line.strip(" \t:") for line in tail if line.strip().startswith("::") and line.rstrip().endswith(("not found", "failed"))]
    causes = [line.strip() for line in tail if any(sign in line for sign in ("Server access error", "Exception", "[FAILED", "timed out"))]
    shown = dict.fromkeys([*unresolved[:3], *causes[:2]]) or dict.fromkeys(line for line in tail[-3:] if line)
    return (
        f"the pinned jars of conf/jars.xml cannot be fetched: {'; '.join(shown)[:600]}. Check that this machine reaches Maven Central, "
        "then run the same command again (what was fetched is kept). Behind a proxy set JAVA_TOOL_OPTIONS=-Dhttps.proxyHost=HOST "
        f"-Dhttps.proxyPort=PORT; for a mirror point {_SETTINGS_VARIABLE} to an ivysettings.xml"
    )


def _ivy_jar() -> Path:
    spec = find_spec("pyspark")
    ivy_jars = sorted(Path(str(spec.origin)).parent.glob("jars/ivy-*.jar")) if spec is not None else []
    if not ivy_jars:
        raise EnvironmentFailure(
            "pyspark with its jars is not installed in this environment; install it with: pip install streaming-scoring"
        )
    return ivy_jars[-1]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time, over all checkouts of this user: they share Ivy's cache, which is not safe to share."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a")
    except OSError as refused:
        raise EnvironmentFailure(
            f"{path}: the cache folder cannot be written: {refused}; point XDG_CACHE_HOME to a folder that can"
        ) from refused
    with opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Fetch everything and say how many jars there are: `python -m streaming.runtime.jars`. `--pin` first writes down what was fetched."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if "--pin" in sys.argv[1:]:
            target = conf_file("jars.xml").with_name(_PINS)
            target.write_text(pin(_fetched()), encoding="utf-8")
            sys.stdout.write(f"{target} is written anew: look at its changes before you keep them\n")
        fetched = resolve_all()
    except EnvironmentFailure as failure:
        sys.exit(f"error: {failure}")
    sys.stdout.write(" ".join(f"{conf}={len(jars)}" for conf, jars in fetched.items()) + " jars\n")


if __name__ == "__main__":
    main()
