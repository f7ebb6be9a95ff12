"""What a column of the pipeline is while it is folded: a number, or a vector in blocks. Pure values; nothing here knows Spark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming.models.spark.fold import text

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Number:
    """One DOUBLE. A row on which it is null is a failed row, unless `nullable`."""

    sql: str
    nullable: bool = False
    #: NaN on some row that has not failed.
    nan: bool = False
    #: The same number as an INT from 0 to `size` - 1, where a StringIndexer made it.
    index: str = ""
    size: int = 0
    #: How many values an index has by Spark ML's own count; 0 for what is no index.
    nominal: int = 0


@dataclass(frozen=True, eq=False)
class Choice:
    """Numbers of which one is chosen: element j is on[j] where the INT `index` is j, and off[j] elsewhere.

    `index` lies from 0 to `places` - 1; at len(on) and above it chooses none of the elements.
    """

    index: str
    places: int
    on: Array
    off: Array

    def __len__(self) -> int:
        return len(self.on)

    def map(self, each: Callable[[Array], Array]) -> Choice:
        """`each` done to every element, whichever is chosen."""
        return Choice(self.index, self.places, each(self.on), each(self.off))

    def table(self, each: Callable[[Array], Array]) -> list[float]:
        """For every place of the index the sum of `each` over the elements, added from left to right."""
        on, off = each(self.on), each(self.off)
        none = float(np.add.accumulate(off)[-1]) if len(off) else 0.0
        if not off.any():
            chosen = on.copy()
        elif len(on) <= 512:
            chosen = np.add.accumulate(np.where(np.eye(len(on), dtype=bool), on, off), axis=1)[:, -1]
        else:
            chosen = none - off + on
        return [*map(float, chosen), *[none] * (self.places - len(on))]

    def element(self, at: int) -> Number:
        """Element `at` by itself."""
        if self.on[at] == self.off[at]:
            return Number(text.number(float(self.on[at])))
        return Number(f"IF({self.index} = {at}, {text.number(float(self.on[at]))}, {text.number(float(self.off[at]))})")


@dataclass(frozen=True)
class Packed:
    """Numbers that stand in one ARRAY<DOUBLE> under a name: what is wide is not planned element by element."""

    name: str
    size: int
    #: As for a number.
    nan: bool = False

    def __len__(self) -> int:
        return self.size

    def element(self, at: int) -> Number:
        """Element `at` by itself."""
        return Number(f"get({self.name}, {at})", nan=self.nan)


Block = Number | Choice | Packed


@dataclass(frozen=True)
class Vector:
    """Blocks beside each other. A row on which it is null is a failed row, unless one of `nulls` holds."""

    blocks: tuple[Block, ...]
    #: Conditions under which the whole vector is null.
    nulls: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return sum(map(width, self.blocks))

    def map(
        self,
        numbers: Callable[[str, int], str],
        constants: Callable[[Array, Any], Array],
        packed: Callable[[Packed, int], Packed] | None = None,
    ) -> Vector:
        """Every element changed by itself: `numbers(sql, place)` and, for the constants of a choice, `constants(values, places)`.

        `packed(block, place)`: a packed block, whose first element stands at `place`, changed as a whole; None: element by element.
        """
        blocks, at = list[Block](), 0
        for block in self.blocks:
            if isinstance(block, Choice):
                where = slice(at, at + len(block))
                blocks.append(block.map(lambda values, where=where: constants(values, where)))  # type: ignore[misc]
            elif isinstance(block, Packed) and packed is not None:
                blocks.append(packed(block, at))
            else:
                blocks += [Number(numbers(each.sql, at + i), each.nullable, each.nan) for i, each in enumerate(elements(block))]
            at += width(block)
        return Vector(tuple(blocks), self.nulls)

    def element(self, place: int) -> Number:
        """One element."""
        at = place
        for block in self.blocks:
            if at < width(block):
                return block if isinstance(block, Number) else block.element(at)
            at -= width(block)
        raise IndexError(place)

    def elements(self) -> list[Number]:
        """Each element by itself."""
        return [number for block in self.blocks for number in elements(block)]

    def dot(
        self, weights: Sequence[float] | Array, *, skip_zeros: bool = False, packed: Callable[[Packed, int], str] | None = None
    ) -> list[str]:
        """The terms of the sum of element times weight. `skip_zeros`: as Spark multiplies with a sparse vector.

        `packed(block, place)`: the term of a packed block whose first element stands at `place`; None: element by element.
        """
        w = np.asarray(weights, dtype=np.float64)
        return self.sums(
            lambda sql, at: None if skip_zeros and w[at] == 0.0 else text.times(sql, float(w[at])),
            lambda values, where: values * w[where],
            packed,
        )

    def sums(
        self,
        numbers: Callable[[str, int], str | None],
        constants: Callable[[Array, Any], Array],
        packed: Callable[[Packed, int], str] | None = None,
    ) -> list[str]:
        """The terms of a sum over the elements, each changed by itself first; None leaves a number out."""
        terms, at = list[str](), 0
        for block in self.blocks:
            if isinstance(block, Choice):
                where = slice(at, at + len(block))
                values = block.table(lambda values, where=where: constants(values, where))  # type: ignore[misc]
                if any(values):
                    terms.append(text.lookup(block.index, values))
            elif isinstance(block, Packed) and packed is not None:
                terms.append(packed(block, at))
            else:
                changed = [numbers(each.sql, at + i) for i, each in enumerate(elements(block))]
                terms += [term for term in changed if term is not None]
            at += width(block)
        return terms

    def array(self) -> str:
        """The vector as ARRAY<DOUBLE>."""
        parts, run = list[str](), list[str]()
        for block in self.blocks:
            if isinstance(block, Number):
                # What Spark ML assembles has no negative zero.
                run.append(f"({block.sql} + 0D)")
                continue
            if run:
                parts.append(text.array(run))
                run = []
            parts.append(block.name if isinstance(block, Packed) else _choices(block))
        parts += [text.array(run)] if run else []
        return "CAST(array() AS ARRAY<DOUBLE>)" if not parts else parts[0] if len(parts) == 1 else f"concat({', '.join(parts)})"


#: More constants than these are not written out for every place of an index.
_WRITTEN = 20_000


def _choices(block: Choice) -> str:
    if len(block) * block.places > _WRITTEN:
        return text.array([block.element(at).sql for at in range(len(block))])
    rows = [text.numbers(np.where(np.arange(len(block)) == place, block.on, block.off)) for place in range(block.places)]
    return f"get({text.array(rows)}, {block.index})" if len(block) else "CAST(array() AS ARRAY<DOUBLE>)"


def width(block: Block) -> int:
    """How many elements."""
    return 1 if isinstance(block, Number) else len(block)


def elements(block: Block) -> list[Number]:
    """Each element of a block by itself."""
    return [block] if isinstance(block, Number) else [block.element(at) for at in range(len(block))]
