"""No secret survives in a text that people read, what is no secret does, and hostile text costs no more than its length."""

from __future__ import annotations

import base64
import gc
import html
import json
import re
import subprocess
import sys
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming import secrets


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_process", secrets.Redactor())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://churn:hunter2@db:5432/churn failed", "postgresql://churn:***@db:5432/churn failed"),
        ("redis://:hunter2@db:6379/0", "redis://:***@db:6379/0"),
        ("postgresql://u:hun@ter2@db/churn", "postgresql://u:***@db/churn"),
        ("postgresql://u:hun/ter2@db/churn", "postgresql://u:***@db/churn"),
        ("s3a://key:hunter2@bucket/a and redis://u:hunter2@h", "s3a://key:***@bucket/a and redis://u:***@h"),
        ('ScramLoginModule required username="u" password="hun ter2";', 'ScramLoginModule required username="u" password="***";'),
        ("host=h password='hun ter2' dbname=d", "host=h password='***' dbname=d"),
        ("host=h password=hun\\ ter2 dbname=d", "host=h password=*** dbname=d"),
        ("ssl.truststore.password=hunter2, x=1", "ssl.truststore.password=***, x=1"),
        ('{"client_secret": "hunter2"}', '{"client_secret": "***"}'),
        ("PASSWORD: hunter2", "PASSWORD: ***"),
        ("token=hunter2", "token=***"),
        ("passwd=hunter2 x", "passwd=*** x"),
        ("spark.hadoop.fs.s3a.secret.key=hun/ter2 x", "spark.hadoop.fs.s3a.secret.key=*** x"),
        ("fs.azure.account.key.x.dfs.core.windows.net -> a", "fs.azure.account.key.x.dfs.core.windows.net -> a"),
        ("clientSecret => hunter2", "clientSecret => ***"),
        ("Authorization: Bearer hunter2.x-y x", "Authorization: *** x"),
        ("got Bearer hunter2", "got Bearer ***"),
        ("got Basic aHVudGVyMg==", "got Basic ***"),
        ('password="hun\\"ter2" b=1', 'password="***" b=1'),
        ('password="hunter2 and no more quotes', 'password="***'),
        ('password="hunter2\nnext line', 'password="***\nnext line'),
        (r'{"a":"{\"password\":\"hun\\\"ter2\",\"b\":1}"}', r'{"a":"{\"password\":\"***\",\"b\":1}"}'),
        ("a?password%3Dhunter2 x", "a?password%3D*** x"),
        ("%22password%22%3A%22hunter2%22", "%22password%22%3A***"),
    ],
)
def test_passwords_are_masked_wherever_they_come_from(text: str, expected: str) -> None:
    assert secrets.redact(text) == expected
    assert secrets.redact(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://localhost:8080/a",
        "postgresql://churn@db/churn",
        "wrong password for user churn",
        "at 12:30 mail a@b.c",
        "kafka://h:9092",
        "Basic authentication failed",
        "send the header Authorization: Bearer TOKEN with the service's token",
        "config.yaml: api.token: missing; host 0.0.0.0 can be reached",
        "config.yaml: api.token: expected at least 16 characters",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert secrets.redact(text) == text


def test_remembered_values_are_masked_also_where_they_overlap() -> None:
    for value in ("abcd", "abcdef", "wxyz", "efwx"):
        secrets.remember(value)
    assert secrets.redact("abcdef abcd wxyz") == "*** *** ***"
    assert secrets.redact("abcdefwxyz!") == "***!"


def test_a_short_value_is_masked_where_it_is_a_word() -> None:
    secrets.remember("abc")
    assert secrets.redact("cabcd abc, x=abc;password abc") == "cabcd ***, x=***;password ***"


def test_passwords_inside_a_remembered_value_are_secrets_by_themselves() -> None:
    secrets.remember("postgresql://u:hun%40ter2@h/d")
    secrets.remember('ScramLoginModule required username="u" password="hushhush";')
    assert secrets.redact("auth for hun@ter2, hushhush") == "auth for ***, ***"


def test_a_key_of_several_lines_is_masked_line_by_line() -> None:
    secrets.remember("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n")
    assert secrets.redact("parsing kqhkiG9w0BAQEF failed") == "parsing *** failed"


def test_a_literal_password_of_an_option_is_a_secret() -> None:
    secrets.remember_literal("ssl.key.password", "hunter2")
    secrets.remember_literal("dsn", "postgresql://u:hushhush@h/d")
    secrets.remember_literal("topic", "customers")
    assert secrets.redact("hunter2 hushhush customers") == "*** *** customers"


FORMS = {
    "as it is": str,
    "JSON": lambda value: json.dumps(value)[1:-1],
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)[1:-1])[1:-1],
    "UTF-8 JSON": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "repr": lambda value: repr(value)[1:-1],
    "libpq": lambda value: value.replace("\\", "\\\\").replace("'", "\\'"),
    "HTML": html.escape,
    "URL": lambda value: quote(value, safe=""),
    "URL path": quote,
    "form": quote_plus,
    "lower-case URL": lambda value: re.sub("%..", lambda code: code[0].lower(), quote(value, safe="")),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_remembered_value_is_masked_in_every_form(form: str) -> None:
    value = "h\"un\\t'er/2 &ü<%"
    secrets.remember(value)
    written = FORMS[form](value)
    assert secrets.redact(f"a{written}b").rstrip("=b") == "a***"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=4), st.text(), st.text())
def test_a_remembered_value_never_survives(value: str, before: str, after: str) -> None:
    redactor = secrets.Redactor()
    redactor.remember(value)
    left = redactor.redact(before + value + after)
    if value.strip():
        assert value not in left


PIECES = [*"ab:/@=\"'\\ \n", "password", "://", "token", "%3D", "Bearer "]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_no_text_is_too_odd(text: str) -> None:
    redactor = secrets.Redactor()
    redactor.remember("abab")
    assert "abab" not in redactor.redact(text)


HOSTILE = ["a", "://a:", "://", "://a:b@", "a@", "password=", 'password="', 'password=\\"', "password='\\\"", " ", "password ", 'token:"\\',
           "=", '"', "\\", "passwd", "Bearer ", 'x="', "password=\\\\\\\"x\"", "a.b-c_", "%3D", "password%22"]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_costs_as_much_as_its_length(piece: str) -> None:
    """Ten times the text: linear work takes ten times as long, quadratic a hundred times. CPU time of this thread alone, the best of three."""
    redactor = secrets.Redactor()
    for value in ("hunter2-secret", "aaaaaaaa", 'a"b'):
        redactor.remember(value)

    def cost(length: int) -> float:
        text = piece * (length // len(piece))
        started = time.thread_time()
        redactor.redact(text)
        return time.thread_time() - started

    gc.disable()
    try:
        small, large = min(cost(20_000) for _ in range(3)), min(cost(200_000) for _ in range(3))
    finally:
        gc.enable()
    assert large < 40 * max(small, 0.0005)


_DIES = """
import sys, threading
from streaming import secrets
secrets.install_hooks()
secrets.remember("hush-hush")
class Unraisable:
    def __del__(self):
        raise ValueError("in del hush-hush")
Unraisable()
thread = threading.Thread(target=lambda: 1 / len("hush-hush"[9:]) if False else exec('raise ValueError("in a thread hush-hush")'), name="t")
thread.start()
thread.join()
raise KeyError("at the end hush-hush")
"""


def test_an_error_that_nobody_caught_is_printed_without_secrets() -> None:
    died = subprocess.run([sys.executable, "-c", _DIES], capture_output=True, text=True, check=False)
    assert died.returncode == 1
    for words in ("in del ***", "in a thread ***", "at the end ***", "KeyError", "Traceback"):
        assert words in died.stderr
    assert "hush-hush" not in died.stderr
