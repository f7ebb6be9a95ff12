#!/usr/bin/env bash
# Makes .venv: checks Python and Java, installs the locked packages (hashes checked) and this project, editable.
# Called by make, from the root of the checkout.
set -euo pipefail

python=${PYTHON:-python3}
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "$python is not on PATH; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11 setup"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>&1) || fail "$python does not run: $version; name another: make PYTHON=/path/to/python3.11 setup"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "$python is Python $version, this project needs 3.11 or newer; name another: make PYTHON=/path/to/python3.11 setup"

# Before the long download, not after it.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" >/dev/null \
  || fail "$java is not there; install Java 17 (Debian, Ubuntu: openjdk-17-jre-headless; macOS: brew install openjdk@17) or set JAVA_HOME"

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  rm -rf .venv
  echo "making .venv with $python ($version)"
  if ! "$python" -m venv .venv >/dev/null 2>&1; then
    # Debian and Ubuntu leave ensurepip out of their python3 package.
    rm -rf .venv
    "$python" -m virtualenv --quiet .venv 2>/dev/null \
      || fail "$python cannot make a virtual environment; install venv (Debian, Ubuntu: python$version-venv) or virtualenv, then run make again"
  fi
fi

# The lock has everything; what is under the AGPL is left out unless somebody asked for it. Nothing else needs it.
locked=$(mktemp); trap 'rm -f "$locked"' EXIT
if [ -n "${AGPL:-}" ]; then
  cp requirements.lock "$locked"
else
  awk '/^[^ #]/ { skip = /^pyspark2pmml==/ } !skip' requirements.lock > "$locked"
  echo "the PMML converter (JPMML-SparkML, AGPL-3.0) is left out; with it: make setup AGPL=1"
fi
echo "installing $(grep -c '^[a-z0-9].*==' "$locked") locked packages (one to three minutes, once)"
export PIP_DISABLE_PIP_VERSION_CHECK=1
if .venv/bin/python -m pip install --quiet "uv==$UV_VERSION"; then
  .venv/bin/uv pip install --python .venv/bin/python --require-hashes -r "$locked" \
    || .venv/bin/python -m pip install --progress-bar off --quiet --require-hashes -r "$locked"
else
  echo "uv cannot be had here; pip does the same, only slower"
  .venv/bin/python -m pip install --progress-bar off --require-hashes -r "$locked"
fi
# setuptools is locked too, so nothing unpinned is fetched to build with.
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
# The finer questions about Java (its version, a trimmed runtime) are asked by the project itself.
.venv/bin/python - <<'EOF'
import sys
from streaming.errors import EnvironmentFailure
from streaming.runtime.java import java_command
try:
    java_command()
except EnvironmentFailure as failure:
    sys.exit(f"error: {failure}")
EOF
