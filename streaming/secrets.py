"""Keeps secrets out of what people read: every sink (log, errors, Spark's log, replies, manifests) writes what :func:`redact` leaves.

Three things are masked as `***`: every value that is known to be a secret, in each form in which programs print it; the
values of options that are named like secrets, whoever wrote them down; passwords inside connection strings. The work grows
with the length of the text and with nothing else, so that hostile text cannot hold up whoever writes the log.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

MASK: Final = "***"
#: Shorter values stand in half of all words: they are masked only where they are a word of their own.
_LONG: Final = 4
#: A line of a longer secret (a key in PEM form) is a secret by itself, for it is logged by itself.
_LINE: Final = 8
#: (from, to): the half-open range of a text that must not be read.
Span = tuple[int, int]

#: A run of what names are made of is looked at once, as a whole: nothing is tried again from its middle.
_NAME: Final = re.compile(r"(?<![\w.-])[\w.-]++")
_WORDS: Final = (
    r"passw|passphrase|pwd|secret|token|credential|jaas|authorization|amz-signature|"
    r"(?:api|access|account|private|encryption|shared|session|storage|keystore)[._-]?key"
)
_SECRET_NAME: Final = re.compile(_WORDS, re.IGNORECASE)
#: What may stand between a name and its value: the name's closing quote, then = or :, as they are or URL-encoded.
_BETWEEN: Final = re.compile(r"(?:\\{0,8}[\"']|%2[27]|&quot;)?\s*+(?:=>?|:|%3[ad])\s*+", re.IGNORECASE)
_QUOTE: Final = re.compile(r"(\\{0,8})([\"'])")
#: Up to the next blank; a backslash takes a blank with it, as in libpq's connection strings.
_BARE: Final = re.compile(r"(?:[^\s\\]|\\.)++")
_SCHEME: Final = re.compile(r"(?:bearer|basic|digest|negotiate)\s++", re.IGNORECASE)
#: What stands after "api.token: " in messages about an option, and is not its value.
_NO_VALUE: Final = frozenset(
    ("missing", "expected", "unknown", "unexpected", "input", "field", "extra", "string", "value", "none", "null", "true", "false", "token")
)
#: An Authorization header without its name. After Basic, words of English are no base64.
_BEARER: Final = re.compile(r"\b(?:[Bb]earer|BEARER)\s++(?P<a>[\w.~+/=-]++)|\b[Bb]asic\s++(?=[a-z]*[A-Z0-9+/=])(?P<b>[\w+/=-]{6,})")
_CHUNK: Final = re.compile(r"\S++")
_USER: Final = re.compile(r"[^:/@\s]*+:")


class Redactor:
    """Masks the secrets that it was told of, and what looks like one."""

    def __init__(self) -> None:
        self._forms: dict[str, None] = {}
        self._values: dict[str, None] = {}

    def remember(self, value: str) -> None:
        """From now on mask `value` in all its forms, and the passwords that stand inside it. Remembering twice changes nothing."""
        parts = [_unquoted(value[start:end]) for start, end in _looks_secret(value)]
        for secret in (value, *parts):
            self._values.setdefault(secret)
            for form in _forms(secret):
                self._forms.setdefault(form)

    def spark_regex(self) -> str:
        """For spark.redaction.regex: Spark masks a setting whose key or value this is found in. It masks the setting that holds this, too."""
        known = [_in_java(secret) for value in tuple(self._values) for secret in (value, unquote(value)) if secret.strip()]
        return "|".join((f"(?i){_WORDS}", *dict.fromkeys(known)))

    def redact(self, text: str) -> str:
        """The text with everything masked. Redacting twice changes nothing more."""
        return _masked(text, [*self._known(text), *_looks_secret(text)])

    def _known(self, text: str) -> Iterator[Span]:
        # A snapshot: another thread may remember meanwhile.
        for form in tuple(self._forms):
            yield from _places(text, form)


def _forms(secret: str) -> Iterator[str]:
    """How programs write a secret down: as it is, line by line, escaped for JSON, Python, libpq, HTML, a URL, and in base64."""
    for value in (secret, unquote(secret), *(line for line in secret.splitlines() if len(line.strip()) >= _LINE)):
        if not value.strip():
            continue
        in_json = json.dumps(value)[1:-1]
        yield from (value, value.strip(), in_json, json.dumps(in_json)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
        yield repr(value)[1:-1]
        yield value.replace("\\", "\\\\").replace("'", "\\'")
        yield html.escape(value)
        try:
            encoded = [quote(value, safe=""), quote(value), quote_plus(value)]
            yield base64.b64encode(value.encode()).decode().rstrip("=")
        except UnicodeEncodeError:  # half of a surrogate pair: no program can encode it either
            continue
        yield from encoded
        yield from (re.sub("%..", lambda code: code[0].lower(), form) for form in encoded)


def _in_java(secret: str) -> str:
    """A Java pattern of exactly this; a short one only where it is a word."""
    quoted = "\\Q" + secret.replace("\\E", "\\E\\\\E\\Q") + "\\E"
    return quoted if len(secret) >= _LONG else rf"(?<!\w){quoted}(?!\w)"


def _places(text: str, form: str) -> Iterator[Span]:
    """Where the form stands in the text, overlapping places included."""
    at = text.find(form)
    while at >= 0:
        end = at + len(form)
        if len(form) >= _LONG or not (_is_word(text[at - 1 : at]) or _is_word(text[end : end + 1])):
            yield at, end
        at = text.find(form, at + 1)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _looks_secret(text: str) -> Iterator[Span]:
    """Values of options that are named like secrets, passwords in URLs, and Authorization headers."""
    yield from _named(text)
    yield from _in_urls(text)
    for match in _BEARER.finditer(text):
        group = "a" if match["a"] is not None else "b"
        if match[group].lower() not in _NO_VALUE:
            yield match.span(group)


def _named(text: str) -> Iterator[Span]:
    end = 0
    for name in _NAME.finditer(text):
        # What lies inside the value before is masked already: that it is not read again keeps the work linear.
        if name.start() < end or not _SECRET_NAME.search(name[0]):
            continue
        between = _BETWEEN.match(text, name.end())
        if between is None:
            continue
        start, end = _value(text, between.end())
        if text[start:end].rpartition(" ")[2].strip("\"',;:.").lower() not in _NO_VALUE:
            yield start, end


def _value(text: str, at: int) -> Span:
    """The value that begins at `at`: what is in quotes, else up to the next blank."""
    quote_ = _QUOTE.match(text, at)
    if quote_ is not None:
        return quote_.end(), _closing(text, quote_.end(), len(quote_[1]), quote_[2])
    scheme = _SCHEME.match(text, at)
    bare = _BARE.match(text, scheme.end() if scheme else at)
    if bare is None:
        return at, at
    return at, at + len(text[at : bare.end()].rstrip(",;)]}"))


def _closing(text: str, start: int, backslashes: int, mark: str) -> int:
    """Where a quoted value ends: before the quote that closes it, or at the end of the line when none does."""
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    at = text.find(mark, start, line_end)
    while at >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        run = at - before
        if run % 2 == 0 if backslashes == 0 else run <= backslashes:
            return before if backslashes else at
        at = text.find(mark, at + 1, line_end)
    return line_end


def _in_urls(text: str) -> Iterator[Span]:
    """The password in each `scheme://user:password@host`; a password may hold @ and /."""
    if "://" not in text:
        return
    for chunk in _CHUNK.finditer(text):
        last, at = text.rfind("@", *chunk.span()), text.find("://", *chunk.span())
        while 0 <= at < last:
            user = _USER.match(text, at + 3, last)
            if user is None:
                at = text.find("://", at + 3, last)
                continue
            slash = text.find("/", user.end(), last)
            end = text.rfind("@", user.end(), slash if slash >= 0 else last + 1)
            end = text.find("@", user.end(), last + 1) if end < 0 else end
            if end > user.end():
                yield user.end(), end
            at = text.find("://", end, last)


def _unquoted(value: str) -> str:
    return value.strip("\"'")


def _masked(text: str, spans: Iterable[Span]) -> str:
    """The text with each span, or what several of them cover together, replaced by the mask."""
    pieces: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        if start > end or not pieces:
            pieces += [text[end:start], MASK]
        end = max(end, stop)
    return "".join((*pieces, text[end:])) if pieces else text


_process: Final = Redactor()


def remember(value: str) -> None:
    """From now on mask `value` in every text that goes through :func:`redact`."""
    _process.remember(value)


def redact(text: str) -> str:
    """The text with every known secret, password in a URL and password-like option masked as `***`."""
    return _process.redact(text)


def spark_regex() -> str:
    """What Spark shall mask in its pages and its event log: settings that are named like secrets, and those that hold a known one."""
    return _process.spark_regex()


def is_secret_name(name: str) -> bool:
    """True when an option of this name holds a secret: `password`, `fs.s3a.secret.key`, `sasl.jaas.config`."""
    return _SECRET_NAME.search(name) is not None


def remember_literal(name: str, value: str) -> None:
    """Remember what is secret in an option that a file spells out: the value when the name says so, and passwords inside it."""
    if is_secret_name(name) and value:
        _process.remember(value)
        return
    for start, end in list(_looks_secret(value)):
        _process.remember(value[start:end])


def install_hooks() -> None:
    """Errors that nobody caught are printed with their secrets masked, whichever thread they end."""

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _print_redacted("".join(traceback.format_exception(kind, error, trace)))

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        trace = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        _print_redacted(f"Exception in thread {args.thread.name if args.thread else '?'}:\n{''.join(trace)}")

    def unraisable_hook(args: Any) -> None:
        trace = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        _print_redacted(f"{args.err_msg or 'Exception ignored in'}: {type(args.object).__name__}\n{''.join(trace)}")

    sys.excepthook, threading.excepthook, sys.unraisablehook = excepthook, thread_hook, unraisable_hook


def _print_redacted(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(redact(text))
        sys.stderr.flush()
