"""What a page may not do in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


@contextmanager
def said_nothing(page: Page, address: str) -> Iterator[None]:
    """While the block runs the page writes nothing into the console, and asks nobody but the service at `address`."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield
    assert [line for line in said if "404" not in line] == []  # the browser's own note about a key nobody has
    assert [url for url in asked if not url.startswith(address)] == []  # nothing from the network
