"""The same as `streaming serve`, for spark-submit: spark-submit jobs/serve.py CONFIG [options]."""

from __future__ import annotations

import sys

from streaming.cli import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
