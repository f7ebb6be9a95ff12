"""Who asks: the tokens that are known, what each may do, and a file of them that may change while the service runs."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml
from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator, model_validator

from streaming import secrets
from streaming.config.sections import Api, strong_token
from streaming.config.values import Name, Section
from streaming.errors import ConfigError

log: Final = logging.getLogger(__name__)

#: read: models and stored predictions. predict: score and explain rows. reload: look for a new version now.
Role = Literal["read", "predict", "reload"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


class Entry(Section):
    """One token of the file: itself, or its SHA-256, so that the file holds nothing that opens a door."""

    name: Name
    roles: frozenset[Role] = Field(min_length=1)
    token: SecretStr | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    _strong = field_validator("token")(strong_token)

    @model_validator(mode="after")
    def _one_of_two(self) -> Entry:
        if (self.token is None) == (self.sha256 is None):
            raise ValueError("give either token or sha256 (printf %s TOKEN | sha256sum), not both")
        return self


_ENTRIES: Final = TypeAdapter(tuple[Entry, ...])


@dataclass(frozen=True)
class Caller:
    """Who asks, as far as the token says."""

    name: str
    roles: frozenset[Role]


class Tokens:
    """The tokens that are known. Empty when the service has none and answers to this machine alone."""

    def __init__(self, settings: Api) -> None:
        """ConfigError when the file of tokens cannot be read: a service must not start with half of its doors."""
        token = settings.token
        self._always = {} if token is None else {_digest(token.get_secret_value().encode()): Caller("api.token", frozenset(ROLES))}
        self._path = None if settings.tokens is None else Path(settings.tokens)
        self._mark: object = None
        self._known = dict(self._always)
        if self._path is not None:
            self._mark = _mark(self._path)
            self._known |= read(self._path)

    def __bool__(self) -> bool:
        return bool(self._always) or self._path is not None

    def caller(self, header: bytes) -> Caller | None:
        """Who sent this Authorization header, or None. By digest: how long it takes says nothing about the tokens."""
        scheme, _, token = header.partition(b" ")
        return self._known.get(_digest(token.strip())) if scheme.lower() == b"bearer" else None

    def look(self) -> None:
        """Take the file up if it has changed. A file that cannot be read changes nothing: the tokens before stay in force."""
        if self._path is None or (mark := _mark(self._path)) == self._mark:
            return
        self._mark = mark
        try:
            self._known = self._always | read(self._path)
        except ConfigError as broken:
            log.warning("the tokens before stay in force: %s", secrets.redact(str(broken)))
        else:
            log.info("tokens=%d read anew from %s", len(self._known), self._path)


def read(path: Path) -> dict[bytes, Caller]:
    """The tokens of a file, by digest. ConfigError says what is wrong with it, and never shows a token."""
    try:
        tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(f"{path}: the file of api.tokens cannot be read: {unreadable}") from None
    except yaml.YAMLError:  # its message quotes the line, and with it the token
        raise ConfigError(f"{path}: not valid YAML; expected a list: - {{name: shop, roles: [predict], token: …}}") from None
    try:
        entries = _ENTRIES.validate_python(tree)
    except ValidationError as invalid:
        wrong = "; ".join(
            f"{'.'.join(map(str, error['loc'])) or 'the file'}: {error['msg']}" for error in invalid.errors(include_input=False)
        )
        raise ConfigError(f"{path}: {wrong}; expected a list: - {{name: shop, roles: [{', '.join(ROLES)}], token: …}}") from None
    known = {_entry_digest(entry): Caller(entry.name, entry.roles) for entry in entries}
    if not known or len(known) < len(entries):
        raise ConfigError(f"{path}: {'two entries have the same token' if known else 'no token'}; give each caller one of its own")
    return known


def _entry_digest(entry: Entry) -> bytes:
    if entry.token is None:
        return bytes.fromhex(entry.sha256 or "")
    secrets.remember(entry.token.get_secret_value())
    return _digest(entry.token.get_secret_value().encode())


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _mark(path: Path) -> object:
    """What changes when the file does; a link that points elsewhere is a change as well."""
    try:
        stat = path.stat()
    except OSError:
        return "gone"
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
