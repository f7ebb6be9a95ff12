"""The body of a request: read in time, parsed, and its rows checked against what the model reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from streaming.api import instances
from streaming.api.replies import Refusal
from streaming.api.served import Served

#: How long a client may take to send its body.
_BODY_S: Final = 30.0
#: Up to here a body is parsed in the event loop: handing it to a thread and back costs more.
INLINE_BYTES: Final = 1 << 15


async def read(request: Request) -> bytes:
    """The whole body, which the gate keeps short. Refusal when it does not come in time."""
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.body()
    except ClientDisconnect:
        raise Refusal(400, "the client went away before its body was complete") from None
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {_BODY_S:.0f} s", headers={"connection": "close"}) from None


async def rows(request: Request, served: Served, *, most: int) -> list[Any]:
    """The rows of a request, fit for the model. Refusal 422 that names instance and field of what is wrong."""
    content = await read(request)
    # A long body is parsed beside the event loop, so that others are answered meanwhile.
    if len(content) > INLINE_BYTES:
        return await run_in_threadpool(checked, content, served, most=most)
    return checked(content, served, most=most)


def checked(content: bytes, served: Served, *, most: int) -> list[Any]:
    """The rows of a body."""
    tree = parsed(content)
    if isinstance(tree, dict) and tree.keys() == {"instances"} and isinstance(tree["instances"], list):
        listed = tree["instances"]
    elif isinstance(tree, dict) and tree.keys() == {"instance"}:
        listed = [tree["instance"]]
    else:
        raise Refusal(422, 'expected {"instances": [{…}, …]} or {"instance": {…}} and nothing else beside it')
    if len(listed) > most:
        raise Refusal(422, f"{len(listed)} instances, expected at most {most} in one request")
    problems = instances.problems(listed, served.inputs)
    if problems:
        raise Refusal(422, _summary(problems), problems=problems)
    return listed


def parsed(content: bytes) -> Any:
    """The JSON value of a body. Refusal 422 when it is none."""
    try:
        return instances.parse(content)
    except instances.Unreadable as broken:
        raise Refusal(422, str(broken)) from None


def _summary(problems: Sequence[instances.Problem]) -> str:
    first = problems[0]
    where = f"instance {first.instance}" + (f", field {first.field}" if first.field is not None else "")
    return f"{where}: {first.error}" + (f" (and {len(problems) - 1} more, see errors)" if len(problems) > 1 else "")
