"""What the running job says of itself, and of the data: figures per lane and batch; windows against the baseline, drift, alerts."""

from typing import Final

#: The name of the lane that watches; here, where it needs no package that only the lane needs.
LANE: Final = "monitor"
