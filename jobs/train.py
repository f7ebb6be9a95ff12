"""The same as `streaming train`, for spark-submit: spark-submit jobs/train.py CONFIG [--overwrite]."""

from __future__ import annotations

import sys

from streaming.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
