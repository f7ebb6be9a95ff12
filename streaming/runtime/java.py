"""Java: found, new enough and complete, or refused with the way out."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from streaming.errors import EnvironmentFailure

log = logging.getLogger(__name__)

#: The oldest Java that Spark 4.2 starts on.
OLDEST: Final = 17
#: Spark 4.2 is started with --add-modules=jdk.incubator.vector, so a runtime trimmed of it cannot even start the JVM.
NEEDED_MODULE: Final = "jdk.incubator.vector"
_NEXT_STEP: Final = "install Java 17 (Debian, Ubuntu: openjdk-17-jre-headless; macOS: brew install openjdk@17) or set JAVA_HOME to one"
#: `java -version` takes 0.1 s; a minute means that something else is wrong.
_ANSWER_WITHIN_S: Final = 60


def java_command() -> Path:
    """The `java` to run: from JAVA_HOME if set, else from PATH. At least Java 17, and complete.

    Asked once per process and environment. Raises EnvironmentFailure with what was found and what to install.
    """
    return _checked(os.environ.get("JAVA_HOME", ""), os.environ.get("PATH", ""))


@cache
def _checked(java_home: str, path: str) -> Path:
    java = _find(java_home, path)
    version = _version(java)
    if version < OLDEST:
        raise EnvironmentFailure(f"found Java {version} at {java}, Spark 4.2 needs Java {OLDEST} or newer; {_NEXT_STEP}")
    if f"{NEEDED_MODULE}@" not in _run(java, "--list-modules"):
        raise EnvironmentFailure(
            f"the Java {version} at {java} has been trimmed: its module {NEEDED_MODULE} is missing, and Spark needs it; {_NEXT_STEP}"
        )
    log.debug("java=%s version=%d", java, version)
    return java


def _find(java_home: str, path: str) -> Path:
    if java_home:
        java = Path(java_home) / "bin" / "java"
        if not os.access(java, os.X_OK) or java.is_dir():
            raise EnvironmentFailure(
                f"JAVA_HOME is {java_home}, but there is no bin/java in it; correct it, or unset it to take java from PATH"
            )
        return java
    on_path = shutil.which("java", path=path)
    if on_path is None:
        raise EnvironmentFailure(f"no java on PATH, and JAVA_HOME is not set; {_NEXT_STEP}")
    return Path(on_path)


def _version(java: Path) -> int:
    """The feature version: 17 of "17.0.15", 8 of "1.8.0_402"."""
    printed = _run(java, "-version")
    match = re.search(r'version "(?:1\.)?(\d+)', printed)
    if match is None:
        raise EnvironmentFailure(f"{java} -version printed no version but {printed.strip()[:200]!r}; {_NEXT_STEP}")
    return int(match[1])


def _run(java: Path, option: str) -> str:
    try:
        # macOS ships a /usr/bin/java that only says where to download one: its exit code is not zero.
        asked = subprocess.run(
            [java, option], capture_output=True, text=True, check=True, timeout=_ANSWER_WITHIN_S, stdin=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError as failed:
        said = " ".join(str(failed.stderr or failed.stdout).split())[:200]
        raise EnvironmentFailure(f"{java} {option} failed with exit code {failed.returncode}: {said}; {_NEXT_STEP}") from failed
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise EnvironmentFailure(f"{java} cannot be run: {failed}; {_NEXT_STEP}") from failed
    return asked.stdout + asked.stderr
