"""The subcommand `streaming api`."""

from __future__ import annotations

from pathlib import Path

import click

from streaming import adapters


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
def api(config: Path) -> None:
    """Answer over HTTP: predictions, explanations, stored predictions, and a page for people.

    REST under /v1, the Open Inference Protocol under /v2, the page at /, the API's description at /docs. No Spark while
    it answers. A new version of the model is taken up while it runs; SIGTERM and Ctrl-C stop it cleanly.
    """
    adapters.load("api", adapters.PARTS).serve(config)
