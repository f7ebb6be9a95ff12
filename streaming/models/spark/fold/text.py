"""SQL text of literals, sums and look-ups: every expression is total, whatever the session's settings (ANSI included).

Each function returns text that may stand anywhere in an expression. Text, because Spark parses a thousand columns in
less time than it takes to make them one call at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

#: Labels that may stand between quotes as they are. Spark replaces ${...} in SQL before it parses it, and a backslash escapes.
_PLAIN: Final = re.compile(r"[A-Za-z0-9 _.,:;()<>=+*/@#%&!?-]*")
#: Terms in one parenthesis: an expression as deep as it is long would exhaust the parser's stack.
_TERMS: Final = 64


def number(value: float) -> str:
    """A DOUBLE literal, to the bit."""
    if not np.isfinite(value):
        return f"CAST('{'NaN' if np.isnan(value) else 'Infinity' if value > 0 else '-Infinity'}' AS DOUBLE)"
    written = f"{float(value)!r}D"
    return f"({written})" if written.startswith("-") else written


def string(value: str) -> str:
    """A STRING literal."""
    return f"'{value}'" if _PLAIN.fullmatch(value) else f"CAST(X'{value.encode().hex()}' AS STRING)"


def column(name: str) -> str:
    """The column of exactly this name."""
    return "`" + name.replace("`", "``") + "`"


def array(items: Sequence[str]) -> str:
    """An array of these."""
    return f"array({', '.join(items)})"


def numbers(values: Iterable[float]) -> str:
    """An array of DOUBLE literals; Spark makes it one literal when it plans."""
    return array([number(float(value)) for value in values])


def lookup(index: str, values: Sequence[float]) -> str:
    """The element of `values` at `index`, an INT from 0 to len(values) - 1."""
    return f"get({numbers(values)}, {index})" if len(set(values)) > 1 else number(values[0])


def total(terms: Sequence[str]) -> str:
    """The sum, from left to right within blocks of 64."""
    if not terms:
        return number(0.0)
    if len(terms) == 1:
        return terms[0]
    if len(terms) > _TERMS:
        return total([total(terms[at : at + _TERMS]) for at in range(0, len(terms), _TERMS)])
    return f"({' + '.join(terms)})"


def times(term: str, factor: float) -> str:
    """The product with a constant."""
    return term if factor == 1.0 else f"({term} * {number(factor)})"


def position(value: str, texts: Sequence[str]) -> str:
    """Where `value` stands among `texts`, an INT; len(texts) for null and for a text that is not there."""
    n = len(texts)
    if n == 0:
        return "0"
    place = f"array_position({array([string(text) for text in texts])}, {value})" if n <= _SCAN else _hashed(value, texts)
    return f"coalesce(CAST(nullif({place}, 0) AS INT) - 1, {n})" if n <= _SCAN else f"coalesce({place}, {n})"


#: So many texts are compared one after the other before a hash is worth its while.
_SCAN: Final = 24


def _hashed(value: str, texts: Sequence[str]) -> str:
    """The place of `value`, or null: buckets by CRC-32, which Python and Spark compute alike."""
    from zlib import crc32

    size = 1 << len(texts).bit_length()
    places: list[list[int]] = [[] for _ in range(size)]
    for place, known in enumerate(texts):
        places[crc32(known.encode()) % size].append(place)
    names = array([array([string(texts[place]) for place in some] or ["CAST(NULL AS STRING)"]) for some in places])
    numbered = array([array([str(place) for place in some] or ["CAST(NULL AS INT)"]) for some in places])
    bucket = f"CAST(crc32(CAST({value} AS BINARY)) % {size} AS INT)"
    at = f"CAST(array_position(get({names}, {bucket}), {value}) AS INT) - 1"
    return f"get(get({numbered}, {bucket}), {at})"


def greatest(names: Sequence[str]) -> str:
    """The place of the greatest, the first of several, as a DOUBLE."""
    return _extreme(names, "greatest")


def least(names: Sequence[str]) -> str:
    """The place of the least, the first of several, as a DOUBLE."""
    return _extreme(names, "least")


def _extreme(names: Sequence[str], function: str) -> str:
    if len(names) == 1:
        return number(0.0)
    if len(names) == 2:
        other = ">" if function == "greatest" else "<"
        return f"IF({names[1]} {other} {names[0]}, 1D, 0D)"
    return f"CAST(array_position({array(names)}, {function}({', '.join(names)})) - 1 AS DOUBLE)"
