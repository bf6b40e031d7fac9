"""What a type requires beyond itself: ranges of numbers, lengths of texts and lists, with the words that describe them.

Named types made of these rules are in `schema`.
"""

import numbers
import operator
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


class Rule:
    """What a type requires beyond itself: pydantic's checks, and the words that describe them.

    Pydantic's own metadata would be checked by the command line's parser as well, with lengthy messages.
    """

    def __init__(self, words: str, *checks: Any):
        self.words, self.checks = words, checks

    def __repr__(self) -> str:
        return self.words

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The schema of the type with the checks."""
        return handler.generate_schema(Annotated[(source, *self.checks)])


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _as_tuple(value: Any) -> Any:
    if hasattr(value, "tolist") and not isinstance(value, str):  # of NumPy
        value = value.tolist()
    return tuple(value) if isinstance(value, (list, range)) else value


def _distinct(value: Sequence[Any]) -> Sequence[Any]:
    if len(set(value)) < len(value):
        raise ValueError("an entry is repeated")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("it is blank")
    return value


def _printable(value: str) -> str:
    if not is_printable(value):
        raise ValueError("a character cannot be written")
    return value


def whole(least: int, most: int) -> Rule:
    """A whole number between two bounds, which are included."""
    plain = BeforeValidator(lambda value: operator.index(value) if _is_number(value, numbers.Integral) else value)
    return Rule(f"a whole number from {least} to {most}", Field(ge=least, le=most), plain)


def number(most: float, *, above: float | None = None, least: float | None = None) -> Rule:
    """A finite number with a lower bound (above: excluded, least: included) and an upper one, which is included."""
    plain = BeforeValidator(lambda value: float(value) if _is_number(value, numbers.Real) else value)
    start = f"above {above:g}" if above is not None else f"from {least:g}"
    words = f"a number {start} {'and at most' if above is not None else 'to'} {most:g}"
    return Rule(words, Field(gt=above, ge=least, le=most, allow_inf_nan=False), plain)


def text(words: str, longest: int, *more: Any, blank: bool = False) -> Rule:
    """A printable text of limited length, which may be empty or only spaces only if `blank`."""
    shortest = () if blank else (AfterValidator(_not_blank),)
    return Rule(words, Field(max_length=longest), AfterValidator(_printable), *shortest, *more)


def listed(what: str, least: int = 1, most: int = 1000, *, repeated: bool = False) -> Rule:
    """A list or tuple with a limited number of entries, all different unless `repeated`."""
    words = f"a list of {'one or more ' if least else ''}{'' if repeated else 'different '}{what}"
    distinct = () if repeated else (AfterValidator(_distinct),)
    return Rule(words, Field(min_length=least, max_length=most), *distinct, BeforeValidator(_as_tuple))


def is_printable(value: str) -> bool:
    """Can a text be written to files? It may hold neither control characters nor lone surrogates."""
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", value)
