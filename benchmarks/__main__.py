"""The benchmarks by name: `python -m benchmarks [NAME [OPTIONS]]`. Without a name: the list, then latency and drain."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

_NAMES = ("latency", "drain", "labels", "memory", "learners", "stores", "rest", "batch", "formats", "drift")
#: What runs when nobody names one: the two that are over in a few minutes.
_DEFAULT = ("latency", "drain")


def main() -> None:
    """Run the benchmark that is named, with the options that follow its name."""
    name, options = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else (None, [])
    if name is None or name not in _NAMES:
        for each in _NAMES:
            text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{each}.py").read_text())) or ""
            print(f"  {each:<10}{text.splitlines()[0]}")
        print("options of one: python -m benchmarks NAME --help\n")
    if name is not None and name not in {*_NAMES, "-h", "--help"}:
        sys.exit(f"no benchmark {name!r}; one of {', '.join(_NAMES)}")
    for each in _DEFAULT if name is None else (name,) if name in _NAMES else ():
        sys.argv = [f"python -m benchmarks {each}", *options]
        runpy.run_module(f"benchmarks.{each}", run_name="__main__")


if __name__ == "__main__":
    main()
