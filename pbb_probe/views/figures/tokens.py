"""Tokens as labels of an axis: escaped, white space seen, roles found, no more than there is room for."""

import html
import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.style import plain

WIDTH = 1050
"""Pixels that the panels of a figure share on a page of usual width; figures grow and shrink with the page."""

_SIGNS = {"\n": "↵", "\t": "⇥", "\r": "↵"}


def visible(token: Any) -> str:
    """A token or a value as a label: escaped, with signs for its line breaks and for the spaces at its ends."""
    return plain(signed(token))


def signed(token: Any) -> str:
    """The same as bare text, for where nothing is taken for markup."""
    text = re.sub("^ +| +$", lambda spaces: "␣" * len(spaces[0]), str(token))
    return "".join(_SIGNS.get(sign, sign) for sign in text)


def roles_at(roles: Mapping[str, int] | None, n: int) -> dict[int, list[str]]:
    """The names of the roles, escaped, that stand at each position of a prompt of n tokens.

    Raises:
        PbbError: a role stands outside.
    """
    names: dict[int, list[str]] = {}
    for role, position in (roles or {}).items():
        if not 0 <= int(position) < n:
            raise PbbError(f"The role {role!r} is at position {position}, but there are tokens 0 to {n - 1}.")
        names.setdefault(int(position), []).append(plain(role))
    return names


def with_room(n: int, pixels: float, always: Sequence[int] = ()) -> list[int]:
    """Which of n labels in a row are written, each having so many pixels: every k-th, and some always."""
    step = max(1, ceil(10 / pixels))
    others = [i for i in range(0, n, step) if all(abs(i - kept) >= step for kept in always)]
    return sorted({*others, *always})


def text_width(label: str, size: int = 13) -> float:
    """About how many pixels the longest line of a label takes in a font of a size."""
    lines = re.sub("</?b>", "", label).split("<br>")
    return 0.6 * size * max(len(html.unescape(line)) for line in lines)
