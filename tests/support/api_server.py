"""The application behind a real server on a real socket, in a thread."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI


@contextmanager
def serving(
    app: FastAPI, setup: uvicorn.Config | None = None, *, scheme: str = "http", verify: str | bool = True
) -> Iterator[httpx.Client]:
    """A client of the application; the server ends with the `with`. `setup`: how to run it, when that is what a test is about."""
    listener = socket.create_server(("127.0.0.1", 0))
    setup = setup or uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    setup.timeout_graceful_shutdown = 5
    server = uvicorn.Server(setup)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        address = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        context = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
        with httpx.Client(base_url=address, timeout=30, trust_env=False, verify=context) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def bearer(token: str) -> dict[str, str]:
    """The head that shows a token."""
    return {"authorization": f"Bearer {token}"}


def connected(client: httpx.Client) -> socket.socket:
    """A connection of our own to the server that the client asks."""
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    said = b""
    try:
        while more := connection.recv(65536):
            said += more
    except ConnectionResetError:
        pass
    return said
