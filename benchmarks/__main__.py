"""The benchmarks by name: `python -m benchmarks [NAME [OPTIONS]]`. Without a name: the list.

`suite` runs its parts side by side and writes the page of results; a part is also a name of its own, with the suite's options.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path
from typing import Final

#: Parts of the suite, and benchmarks that stand by themselves.
_PARTS: Final = ("latency", "drain", "cost", "crayfish", "stores", "learners", "labels", "scaling", "soak")
_ALONE: Final = ("suite", "quality", "rest", "batch", "drift", "monitor", "watched")


def main() -> None:
    """Run the benchmark that is named, with the options that follow its name."""
    name, options = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in _PARTS:
        name, options = "suite", ["--parts", name, *options]
    elif name not in _ALONE:
        tell()
        if name not in ("-h", "--help"):
            sys.exit(f"no benchmark {name!r}; one of {', '.join((*_PARTS, *_ALONE))}")
        return
    sys.argv = [f"python -m benchmarks {name}", *options]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")


def tell() -> None:
    """The list."""
    for each in (*_ALONE, *_PARTS):
        text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{each}.py").read_text())) or ""
        print(f"  {each:<10}{text.splitlines()[0]}")
    print("options of one: python -m benchmarks NAME --help")


if __name__ == "__main__":
    main()
