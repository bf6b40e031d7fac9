"""Phrases: the table of English beside the Python it stands for, as words and as syntax trees with slots."""

import ast
import functools
from typing import Any

EXPRESSIONS = (
    ("the sum of _0 and _1", "_0 + _1"),
    ("what remains when _1 is taken from _0", "_0 - _1"),
    ("the product of _0 and _1", "_0 * _1"),
    ("the remainder of _0 divided by _1", "_0 % _1"),
    ("the quotient of _0 divided by _1", "_0 // _1"),
    ("the power of _0 to _1", "_0 ** _1"),
    ("the bits shared by _0 and _1", "_0 & _1"),
    ("the bits of _0 or _1", "_0 | _1"),
    ("the bits that differ between _0 and _1", "_0 ^ _1"),
    ("the bits of _0 moved left by _1", "_0 << _1"),
    ("the bits of _0 moved right by _1", "_0 >> _1"),
    ("the negative of _0", "-_0"),
    ("the opposite of _0", "not _0"),
    ("both _0 and _1", "_0 and _1"),
    ("all three of _0 , _1 and _2", "_0 and _1 and _2"),
    ("at least one of _0 and _1", "_0 or _1"),
    ("at least one of _0 , _1 and _2", "_0 or _1 or _2"),
    ("the choice of _0 if _1 and otherwise of _2", "_0 if _1 else _2"),
    ("the larger of _0 and _1", "max(_0, _1)"),
    ("the smaller of _0 and _1", "min(_0, _1)"),
    ("the largest of _0", "max(_0)"),
    ("the smallest of _0", "min(_0)"),
    ("the absolute value of _0", "abs(_0)"),
    ("the length of _0", "len(_0)"),
    ("the total of _0", "sum(_0)"),
    ("the sorted list of _0", "sorted(_0)"),
    ("the sorted list of _0 by _1", "sorted(_0, key=_1)"),
    ("the falling list of _0", "sorted(_0, reverse=True)"),
    ("the whole number of _0", "int(_0)"),
    ("the text of _0", "str(_0)"),
    ("the code point of _0", "ord(_0)"),
    ("the character of code point _0", "chr(_0)"),
    ("the numbers below _0", "range(_0)"),
    ("the numbers from _0 to just before _1", "range(_0, _1)"),
    ("the numbers from _0 to just before _1 in steps of _2", "range(_0, _1, _2)"),
    ("the numbered items of _0", "enumerate(_0)"),
    ("the pairs of _0 with _1", "zip(_0, _1)"),
    ("the item of _0 at _1", "_0[_1]"),
    ("the part of _0 from _1", "_0[_1:]"),
    ("the part of _0 before _1", "_0[:_1]"),
    ("the part of _0 from _1 to just before _2", "_0[_1:_2]"),
    ("the reverse of _0", "_0[::-1]"),
    ("the part of _0 in steps of _1", "_0[::_1]"),
    ("the part of _0 from _1 in steps of _2", "_0[_1::_2]"),
    ("the copy of _0", "_0[:]"),
    ("the joining of _1 by _0", "_0.join(_1)"),
    ("the appending of _1 to _0", "_0.append(_1)"),
    ("the removal of the last item of _0", "_0.pop()"),
    ("the list of _0 for each _1 in _2", "[_0 for _1 in _2]"),
    ("the list of _0 for each _1 in _2 where _3", "[_0 for _1 in _2 if _3]"),
    ("the series of _0 for each _1 in _2", "(_0 for _1 in _2)"),
    ("the series of _0 for each _1 in _2 where _3", "(_0 for _1 in _2 if _3)"),
    ("the set of _0 for each _1 in _2", "{_0 for _1 in _2}"),
    ("the table of _0 to _1 for each _2 in _3", "{_0: _1 for _2 in _3}"),
    ("the function that takes _0 to _1", "lambda _0: _1"),
)
STATEMENTS = (
    ("let _0 be _1", "_0 = _1"),
    ("increase _0 by _1", "_0 += _1"),
    ("decrease _0 by _1", "_0 -= _1"),
    ("multiply _0 by _1", "_0 *= _1"),
    ("divide _0 by _1 leaving off the rest", "_0 //= _1"),
    ("replace _0 by its remainder by _1", "_0 %= _1"),
    ("shift the bits of _0 right by _1", "_0 >>= _1"),
    ("shift the bits of _0 left by _1", "_0 <<= _1"),
    ("flip in _0 the bits of _1", "_0 ^= _1"),
    ("the result is _0", "return _0"),
    ("return nothing", "return"),
    ("leave the loop", "break"),
    ("go on with the next turn", "continue"),
    ("do nothing", "pass"),
    ("carry out _0", "_0"),
)
COMPARISONS = {
    "Eq": "equals", "NotEq": "differs from", "Lt": "is less than", "LtE": "is at most", "Gt": "is greater than",
    "GtE": "is at least", "In": "is in", "NotIn": "is not in", "Is": "is the same as", "IsNot": "is not the same as",
}  # fmt: skip
SEQUENCES = {"List": "the list", "Tuple": "the tuple", "Set": "the set"}

SLOTS = ("_0", "_1", "_2", "_3")
Rules = tuple[tuple[tuple[str, ...], Any], ...]


@functools.cache
def expression_rules() -> Rules:
    """Words and tree of every noun phrase, in the order in which they are tried."""
    return tuple((tuple(words.split()), ast.parse(code, mode="eval").body) for words, code in EXPRESSIONS)


@functools.cache
def statement_rules() -> Rules:
    """Words and tree of every sentence without a block, in the order in which they are tried."""
    return tuple((tuple(words.split()), ast.parse(code).body[0]) for words, code in STATEMENTS)


def match(template: Any, node: Any, slots: dict[str, Any]) -> dict[str, Any] | None:
    """What stands in the template's slots when it is laid over the tree; None where they differ."""
    if isinstance(template, ast.Name) and template.id in SLOTS:
        return {**slots, template.id: node} if isinstance(node, ast.expr) and not isinstance(node, ast.Slice) else None
    if isinstance(template, ast.arg) and template.arg in SLOTS and isinstance(node, ast.arg):
        return {**slots, template.arg: ast.Name(node.arg)}
    if type(template) is not type(node):
        return None
    if isinstance(template, list):
        if len(template) != len(node):
            return None
        pairs = zip(template, node, strict=True)
    elif isinstance(template, ast.AST):
        pairs = zip(
            *([getattr(tree, name, None) for name in template._fields if name != "ctx"] for tree in (template, node)),
            strict=True,
        )
    else:
        return slots if template == node else None
    for part, other in pairs:
        if (matched := match(part, other, slots)) is None:
            return None
        slots = matched
    return slots


def build(template: Any, slots: dict[str, Any]) -> Any:
    """The template with its slots filled."""
    if isinstance(template, ast.Name) and template.id in slots:
        return slots[template.id]
    if isinstance(template, ast.arg) and template.arg in slots:
        return ast.arg(slots[template.arg].id) if isinstance(slots[template.arg], ast.Name) else template
    if isinstance(template, list):
        return [build(part, slots) for part in template]
    if isinstance(template, ast.AST):
        return type(template)(**{name: build(getattr(template, name, None), slots) for name in template._fields})
    return template
