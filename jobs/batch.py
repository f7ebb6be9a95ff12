"""The same as `streaming batch`, for spark-submit: spark-submit jobs/batch.py CONFIG --input … --output …."""

from __future__ import annotations

import sys

from streaming.cli import main

if __name__ == "__main__":
    main(["batch", *sys.argv[1:]])
