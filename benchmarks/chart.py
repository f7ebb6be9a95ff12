"""The distributions of the latencies as a picture: for each rate, which share of the events waited longer than so many milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.results import Part
from benchmarks.statistics import shares

#: Per cent of the events: below it a window of some thousand says nothing.
_LEAST = 0.01


def draw(part: Part, path: Path) -> bool:
    """Draw the part's distributions; False, with nothing drawn, when there are none."""
    settings = list(dict.fromkeys(setting for _, setting, _ in part.distributions))
    if not settings:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    systems = list(dict.fromkeys(system for system, _, _ in part.distributions))
    colours = dict(zip(systems, plt.get_cmap("tab10" if len(systems) <= 10 else "tab20").colors, strict=False))
    columns = 2 if len(settings) == 1 else 4
    figure, axes = plt.subplots(1, len(settings), figsize=(4.0 + 4.5 * len(settings), 6.0), sharey=True, squeeze=False)
    for axis, setting in zip(axes[0], settings, strict=True):
        for system, _, values in (distribution for distribution in part.distributions if distribution[1] == setting):
            # 0 ms means below the clock's millisecond; a logarithm needs a place for it. So it does for the slowest event.
            beyond = np.maximum(100.0 - shares(len(values)), _LEAST)
            axis.plot(np.maximum(values, 0.5), beyond, label=system, color=colours[system], linestyle="--" if "identity" in system else "-")
        axis.set(
            xscale="log", yscale="log", ylim=(_LEAST, 120.0), title=setting, xlabel="ms from due to answered (0.5: below the clock's 1 ms)"
        )
        axis.grid(True, which="major", alpha=0.3)
    axes[0][0].set_ylabel("share of events that waited longer, %")
    handles = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=columns, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0.0, 0.02 + 0.04 * -(-len(systems) // columns), 1.0, 1.0))
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True
