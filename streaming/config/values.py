"""What a section and a single value of the configuration may be: durations, names, addresses, and what comes from the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from streaming import secrets
from streaming.errors import ConfigError

_DURATION: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|seconds?|m|minutes?|h|hours?|d|days?)$")
_SECONDS: Final = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str) -> float:
    """A duration such as "500 ms", "20 seconds" or "1 minute" in seconds. ValueError on anything else."""
    match = _DURATION.match(duration.strip().lower())
    if match is None:
        raise ValueError('expected a number and a unit, such as "500 ms", "20 seconds" or "1 minute"')
    unit = match[2]
    key = "ms" if unit == "ms" else "milli" if unit.startswith("milli") else unit[0]
    return float(match[1]) * _SECONDS[key]


def interval(duration: str) -> str:
    """The duration as Spark spells it; Spark knows fewer units than people use."""
    return f"{round(seconds(duration) * 1000)} milliseconds"


_SIZE: Final = re.compile(r"^(\d+)\s*(MiB|GiB)$")


def size(text: str) -> int:
    """An amount of memory such as "512 MiB" or "4 GiB" in bytes. ValueError on anything else."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError('expected a whole number and a unit, such as "512 MiB" or "4 GiB"')
    return int(match[1]) << {"MiB": 20, "GiB": 30}[match[2]]


def _size(value: str) -> str:
    size(value)
    return value


def _duration(value: str) -> str:
    seconds(value)
    return value


def _topic(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in {".", ".."}:
        raise ValueError("expected a Kafka topic name: letters, digits, '.', '_' or '-', at most 249 characters")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError("expected a short name: letters, digits, '.', '_' or '-', starting with a letter or a digit")
    return value


Duration = Annotated[str, AfterValidator(_duration)]
Size = Annotated[str, AfterValidator(_size)]
Topic = Annotated[str, AfterValidator(_topic)]
Name = Annotated[str, AfterValidator(_name)]
#: The name of a learner is also that of a folder and of a column: no dots.
LearnerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]

_ENV: Final = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
#: Keys whose values are addresses and names, not secrets: someone stuck needs to read them in an error.
_PUBLIC: Final = frozenset(
    {
        "bootstrap_servers",
        "topic",
        "rejected_topic",
        "shadow_topic",
        "name",
        "version",
        "path",
        "table",
        "master",
        "kind",
        "mode",
        "trigger",
        "host",
        "port",
    }
)


#: A number or a flag as the whole value of an option is a setting: masked, it would take half of every log line with it.
_SETTING: Final = re.compile(r"\d{1,6}|true|false", re.IGNORECASE)


def interpolate(value: Any, source: str, path: tuple[str, ...]) -> Any:
    """Replace `${env:VAR}` in every string below `value`, and remember what was put in, and passwords written down, as secrets."""
    if isinstance(value, dict):
        return {key: interpolate(child, source, (*path, str(key))) for key, child in value.items()}
    if isinstance(value, list):
        return [interpolate(child, source, (*path, str(i))) for i, child in enumerate(value)]
    if not isinstance(value, str):
        return value
    name = path[-1] if path else ""

    def substitute(match: re.Match[str]) -> str:
        given = os.environ.get(match[1])
        if given is None:
            raise ConfigError(f"{source}: {'.'.join(path)}: the environment variable {match[1]} is not set; export it before the start")
        if name not in _PUBLIC and not (match[0] == value and _SETTING.fullmatch(given) and not secrets.is_secret_name(name)):
            secrets.remember(given)
        return given

    whole = _ENV.sub(substitute, value)
    secrets.remember_literal(name, whole)
    return whole


def is_loopback(host: str) -> bool:
    """True when only this machine can reach the address. A name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Section(BaseModel):
    """A part of the configuration: frozen, and refusing what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)
