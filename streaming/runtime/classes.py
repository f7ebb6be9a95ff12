"""Archives of classes that a JVM has read before (class data sharing): the next JVM starts with half the work.

Java's own saving, and never more than that: an archive that no longer fits (another Java, other jars) is left aside by
the JVM, and where there is none everything works as well. `python -m streaming.demo.record` makes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from streaming.runtime import jars, java

#: While it is set, JVMs write archives instead of using them.
_RECORD: Final = "STREAMING_RECORD_CLASSES"
#: The JVM says on stdout which classes it leaves out, and that an archive does not fit: nothing that a user could act on.
_SILENT: Final = ("-Xshare:auto", "-Xlog:cds*=off", "-Xlog:class*=off")


def options(conf: jars.Conf) -> list[str]:
    """What to tell a JVM over the jars of `conf`: nothing where there is no archive."""
    if os.environ.get(_RECORD):
        return [*_SILENT, f"-XX:ArchiveClassesAtExit={_new(archive(conf))}"]
    return [*_SILENT, f"-XX:SharedArchiveFile={path}"] if (path := archive(conf)).is_file() else []


def archive(conf: jars.Conf) -> Path:
    """Where the archive lies. Its name says over which files it was made, and in which state these and Java were."""
    paths = jars.resolve(conf)
    files = [java.java_command().resolve(), *paths, _spark_jars()]
    where, when = _hash(map(str, files)), _hash(str(path.stat().st_mtime_ns) for path in files)
    return paths[0].parent / f"classes-{where}-{when}.jsa"


@contextmanager
def recorded(*confs: jars.Conf) -> Iterator[None]:
    """JVMs that start in the block leave an archive when they end, which they must before the block does.

    An exception leaves everything as it was: an archive may have been written only in part.
    """
    made = {conf: _new(archive(conf)) for conf in confs}
    os.environ[_RECORD] = "1"
    try:
        yield
        for conf, new in made.items():
            if new.is_file():
                _replace(new, archive(conf))
    finally:
        del os.environ[_RECORD]
        for new in made.values():
            new.unlink(missing_ok=True)


def _replace(new: Path, path: Path) -> None:
    """Put a finished archive in place of those of an earlier state."""
    for old in path.parent.glob(f"{path.stem.rsplit('-', 1)[0]}-*.jsa"):
        old.unlink()
    new.replace(path)


def _new(path: Path) -> Path:
    return path.with_suffix(f".{os.getpid()}.new")


def _spark_jars() -> Path:
    spec = find_spec("pyspark")
    return Path(str(spec.origin)).parent / "jars" if spec is not None else Path("/")


def _hash(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
