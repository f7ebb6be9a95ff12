"""Records made to do harm: values that parsers trip over, in fields of every type, and records that are no events at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

#: Texts of JSON values that have ended a query, or might.
VALUES: Final = (
    "1e40", "1e400", "1e-400", "1e4000", "1e400000000", "-1E+400000000", "1e-400000000", '"1e400000000"', '"1e-400000000"',
    r'"1\u0065400000000"', r'"1e40\u0030000000"', "[1e400000000]", '{"a":1e400000000}', '{"b":[{"c":"1e-400000000"}]}',
    "9" * 900, "9" * 5000, '"' + "9" * 200_000 + '"', "0." + "1" * 900,
    '"NaN"', '"Infinity"', "-0.0", "true", "null", "{}", "[]", "[null]", '{"":null}', '""', '" "', r'"\u0000"', r'"\ud800"',
    '"5881580-07-11"', '"+5881580-07-11"', '"-5877641-06-23"', '"999999999-01-01"', '"0000-00-00"', '{"k":"+5881580-07-11"}',
    '"+294247-01-10T04:00:54.775807Z"', '"-290308-12-21T19:59:05.224192Z"', '"+294247-01-10"', '"9999-12-31T23:59:59.999999999+18:00"',
    '"0001-01-01T00:00:00-18:00"', '"0001-01-01T00:00:00+18:00"', '"1970-01-01T00:00:00[Mars/Base]"', '"2026-01-01T00:00:60Z"', '"12:00"',
    "9223372036854775807", "-9223372036854775809", "9223372036854775", "-62135596800000001", "253402300800000", "1e18", "1e308",
    "INTERVAL", "\"INTERVAL '999999999999' DAY\"", "\"INTERVAL '178956970-8' YEAR TO MONTH\"", '"AAAA=="', '"@"',
    "[" * 900 + "]" * 900, "[" * 20_000 + "]" * 20_000, '{"a":' * 3000 + "1" + "}" * 3000,
)  # fmt: skip

_PIECES: Final = (
    "9" * 30,
    "-",
    "+",
    ".",
    "e",
    "E",
    "0",
    "1",
    "T",
    ":",
    "Z",
    " ",
    "2026",
    "01",
    "\\u0000",
    "\\u20ac",
    "NaN",
    "Inf",
    "d",
    "0x",
    "e9999",
)
_BYTES: Final = (
    b"{",
    b"}",
    b'"',
    b":",
    b",",
    b"[",
    b"]",
    b"\\",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x92\xa9",
    b"null",
    b"1",
    b"\n",
    b" ",
)


def value(rng: random.Random) -> str:
    """The text of a value, put together from pieces; not always JSON."""
    text = "".join(rng.choices(_PIECES, k=rng.randrange(1, 9)))
    return rng.choice([text, f'"{text}"', f"[{text}]", f'{{"a":"{text}"}}', f'{{"b":[{{"c":{text}}}]}}'])


def values(seed: int, n: int) -> Iterator[str]:
    """`n` made-up values, the same for the same seed."""
    rng = random.Random(seed)
    return (value(rng) for _ in range(n))


def record(rng: random.Random, good: dict[str, str]) -> bytes | None:
    """The value of a record: a good event (field -> text of its JSON value), one with a fault, or what is no event at all."""
    fields = dict(good)
    match rng.randrange(12):
        case 0 | 1 | 2:
            pass
        case 3 | 4 | 5 | 6:
            for name in rng.sample(sorted(fields), k=rng.randrange(1, 3)):
                fields[name] = rng.choice(VALUES[:18] + VALUES[19:]) if rng.random() < 0.5 else value(rng)
        case 7:
            fields.pop(rng.choice(sorted(fields)))
        case 8:
            return b"".join(rng.choices(_BYTES, k=rng.randrange(0, 30)))
        case 9:
            return None if rng.random() < 0.3 else rng.randbytes(rng.randrange(0, 60))
        case 10:  # a byte lost, doubled or changed
            text = _json(fields)
            at = rng.randrange(len(text))
            return text[:at] + rng.choice([b"", text[at : at + 1] * 2, rng.randbytes(1)]) + text[at + 1 :]
        case _:  # a field twice, a second object behind the first, or a long one
            text = _json(fields)
            return rng.choice(
                [text[:-1] + b"," + text[1:], text + text, text[:-1] + b',"more":"' + b"m" * rng.choice([10, 3_000, 60_000]) + b'"}']
            )
    return _json(fields)


def _json(fields: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}").encode(errors="replace")


def headers(rng: random.Random) -> list[tuple[str, bytes | None]] | None:
    """Headers as no well-meaning producer writes them; mostly none."""
    if rng.random() < 0.9:
        return None
    names = ("reason", "source_offset", "truncated", "", "x" * 300, "ü")
    return [(rng.choice(names), rng.choice([None, b"", b"\xff\xfe", b"7", b"v" * 2000])) for _ in range(rng.randrange(1, 5))]
