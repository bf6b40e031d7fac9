"""Descriptions: a program told in English by rule, and the same rules read backwards to prove that nothing was lost.

One table pairs each English phrase with the Python it stands for. `describe` matches the program's syntax tree against
the Python column, `read_description` parses text against the English column. Phrases begin with words of their own and
have a fixed number of slots, so that no brackets are needed. What `describe` returns has been read back into the same
program.
"""

import ast
import functools
import re
from collections.abc import Iterator
from typing import Any

from pbb_probe.errors import PbbError

_EXPRESSIONS = (
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
_STATEMENTS = (
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
_COMPARISONS = {
    "Eq": "equals", "NotEq": "differs from", "Lt": "is less than", "LtE": "is at most", "Gt": "is greater than",
    "GtE": "is at least", "In": "is in", "NotIn": "is not in", "Is": "is the same as", "IsNot": "is not the same as",
}  # fmt: skip
_SEQUENCES = {"List": "the list", "Tuple": "the tuple", "Set": "the set"}
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\w+|[^\w\s]""")
_OPENERS = {"the", "whether", "both", "all", "at", "what"}


@functools.lru_cache(maxsize=4096)
def describe(source: str) -> str:
    """The function in English, such as `dolvik takes x. let y be the sum of x and 3. the result is y.`

    Raises:
        PbbError: it uses a construction that the rules have no words for, or whose words could mean another program.
    """
    text, function = _told(source), ast.parse(source)
    if _read(text) != [ast.unparse(function)]:
        raise PbbError(f"This cannot be described without loss: write it in simpler statements: {source[:200]!r}.")
    return text


def read_description(text: str) -> str:
    """The source that a description stands for, in the layout of `ast.unparse`.

    Raises:
        PbbError: the text is not a description, or stands for several programs.
    """
    found = _read(text)
    if len(found) != 1 or _TOKEN.findall(_told(found[0])) != _TOKEN.findall(text):
        raise PbbError(f"This is no description of one program: {text[:200]!r}.")
    return found[0]


def _read(text: str) -> list[str]:
    """The sources that a text can be read as."""
    try:
        functions = list(_Reader(_TOKEN.findall(text)).function())
        return sorted({ast.unparse(ast.fix_missing_locations(function)) for function in functions})
    except (SyntaxError, ValueError, RecursionError) as error:  # no number, no text, too deep
        raise PbbError(f"This cannot be read as a description ({error}): {text[:200]!r}.") from error


# From the syntax tree to words


def _told(source: str) -> str:
    try:
        match ast.parse(source).body:
            case [ast.FunctionDef() as function]:
                arguments = _listed(arg.arg for arg in function.args.args) or "nothing"
                return " ".join([_sentence([function.name, "takes", arguments]), *map(_tell, function.body)])
    except (SyntaxError, RecursionError, MemoryError):
        pass
    raise PbbError(f"Only one function, not nested too deeply, can be described; this is none: {source[:200]!r}.")


def _tell(node: Any) -> str:
    """A statement as a sentence, with the sentences of its blocks inside."""
    if isinstance(node, ast.If):
        otherwise = ["otherwise", *map(_tell, node.orelse)] if node.orelse else []
        return _sentence(["if", _test(node.test), "then", *map(_tell, node.body), *otherwise, "end"])
    if isinstance(node, ast.While) and not node.orelse:
        return _sentence(["as long as", _test(node.test), "do", *map(_tell, node.body), "end"])
    if isinstance(node, ast.For) and not node.orelse:
        each = ["for each", _word(node.target), "in", _word(node.iter)]
        return _sentence([*each, "do", *map(_tell, node.body), "end"])
    if isinstance(node, ast.FunctionDef):
        arguments = _listed(arg.arg for arg in node.args.args)
        return _sentence(["to find", node.name, "of (", arguments, ")", *map(_tell, node.body), "end"])
    for words, template in _statement_rules():
        if (slots := _match(template, node, {})) is not None:
            return _sentence([_fill(words, slots)])
    raise _wordless(node)


def _word(node: Any) -> str:
    """An expression as a noun phrase."""
    for words, template in _expression_rules():
        if (slots := _match(template, node, {})) is not None:
            return _fill(words, slots)
    match node:
        case ast.Constant() | ast.Name():
            return ast.unparse(node)
        case ast.Compare():
            return f"whether {_comparison(node)}"
        case ast.List() | ast.Tuple() | ast.Set():
            return f"{_SEQUENCES[type(node).__name__]} ( {_listed(map(_word, node.elts))} )"
        case ast.Dict() if all(node.keys):
            entries = zip(node.keys, node.values, strict=True)
            return f"the table ( {_listed(f'the pair of {_word(k)} and {_word(v)}' for k, v in entries)} )"
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            return f"the call of {name} with ( {_listed(map(_word, node.args))} )"
        case ast.Call(func=ast.Attribute(attr=name, value=owner), keywords=[]):
            return f"the call of {name} on {_word(owner)} with ( {_listed(map(_word, node.args))} )"
    raise _wordless(node)


def _test(node: Any) -> str:
    return _comparison(node) if isinstance(node, ast.Compare) else _word(node)


def _comparison(node: ast.Compare) -> str:
    parts = [
        f"{_COMPARISONS[type(op).__name__]} {_word(right)}"
        for op, right in zip(node.ops, node.comparators, strict=True)
    ]
    return " and that ".join([f"{_word(node.left)} {parts[0]}", *parts[1:]])


def _fill(words: tuple[str, ...], slots: dict[str, Any]) -> str:
    return " ".join(_word(slots[word]) if word in slots else word for word in words).replace(" ,", ",")


def _listed(items: Any) -> str:
    return ", ".join(items)


def _sentence(parts: list[str]) -> str:
    return " ".join(part for part in parts if part) + "."


def _wordless(node: ast.AST) -> PbbError:
    return PbbError(f"There is no description for {ast.unparse(node)!r}: write it in simpler statements.")


# From words to the syntax tree


class _Reader:
    """Every way in which the tokens from a place on can be read; `(what, next place)` each."""

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self.expression = functools.cache(lambda i: list(self._expressions(i)))
        self.statement = functools.cache(lambda i: list(self._statements(i)))

    def token(self, i: int) -> str | None:
        return self.tokens[i] if i < len(self.tokens) else None

    def literal(self, text: str, i: int) -> int | None:
        words = text.split()
        return i + len(words) if self.tokens[i : i + len(words)] == words else None

    def function(self) -> Iterator[ast.stmt]:
        if len(self.tokens) > 3 and self.tokens[1] == "takes":
            names, stop = self.names(2)
            for body, end in self.block(stop + 1):
                if end == len(self.tokens):
                    yield _function(self.tokens[0], [name for name in names if name != "nothing"], body)

    def names(self, i: int) -> tuple[list[str], int]:
        names = []
        while (token := self.token(i)) is not None and token not in (".", ")"):
            names += [token] if token != "," else []
            i += 1
        return names, i

    def pattern(self, words: tuple[str, ...], i: int) -> Iterator[tuple[dict[str, Any], int]]:
        if not words:
            yield {}, i
        elif words[0] not in _SLOTS:
            if self.token(i) == words[0]:
                yield from self.pattern(words[1:], i + 1)
        else:
            for node, j in self.expression(i):
                for slots, end in self.pattern(words[1:], j):
                    yield {words[0]: node, **slots}, end

    def pair(self, i: int) -> Iterator[tuple[Any, int]]:
        for slots, j in self.pattern(("the", "pair", "of", "_0", "and", "_1"), i):
            yield (slots["_0"], slots["_1"]), j

    def sequence(self, i: int, item: Any = None) -> Iterator[tuple[list, int]]:
        """`( a, b )`"""
        item = item or self.expression
        if self.token(i) == "(" and self.token(i + 1) == ")":
            yield [], i + 2
        elif self.token(i) in ("(", ","):
            for node, j in item(i + 1):
                if self.token(j) == ")":
                    yield [node], j + 1
                elif self.token(j) == ",":
                    yield from (([node, *rest], end) for rest, end in self.sequence(j, item))

    def _expressions(self, i: int) -> Iterator[tuple[Any, int]]:
        token = self.token(i)
        if token is None:
            return
        if token not in _OPENERS:
            if token[0] in "'\"" or token.isdigit() or token in ("True", "False", "None"):
                yield ast.Constant(ast.literal_eval(token)), i + 1
            elif token.isidentifier():
                yield ast.Name(token, ast.Load()), i + 1
            return
        for words, template in _expression_rules():
            for slots, j in self.pattern(words, i):
                yield _build(template, slots), j
        if token == "whether":
            yield from self.comparison(i + 1)
        for kind, opening in _SEQUENCES.items():
            if (start := self.literal(opening, i)) is not None:
                yield from ((getattr(ast, kind)(elts=items), end) for items, end in self.sequence(start))
        if (start := self.literal("the table", i)) is not None:
            for pairs, end in self.sequence(start, self.pair):
                yield ast.Dict([key for key, _ in pairs], [value for _, value in pairs]), end
        if (start := self.literal("the call of", i)) is not None and (name := self.token(start)) is not None:
            yield from self.called(name, start + 1)

    def called(self, name: str, i: int) -> Iterator[tuple[ast.expr, int]]:
        if self.token(i) == "with":
            yield from ((ast.Call(ast.Name(name), items, []), end) for items, end in self.sequence(i + 1))
        elif self.token(i) == "on":
            for owner, j in self.expression(i + 1):
                if self.token(j) == "with":
                    for items, end in self.sequence(j + 1):
                        yield ast.Call(ast.Attribute(owner, name), items, []), end

    def comparison(self, i: int) -> Iterator[tuple[ast.expr, int]]:
        for left, j in self.expression(i):
            for operators, rights, end in self.compared(j):
                yield ast.Compare(left, operators, rights), end

    def compared(self, i: int) -> Iterator[tuple[list, list, int]]:
        for kind, words in _COMPARISONS.items():
            if (j := self.literal(words, i)) is None:
                continue
            for right, end in self.expression(j):
                yield [getattr(ast, kind)()], [right], end
                if (k := self.literal("and that", end)) is not None:
                    for operators, rights, last in self.compared(k):
                        yield [getattr(ast, kind)(), *operators], [right, *rights], last

    def test(self, i: int) -> Iterator[tuple[ast.expr, int]]:
        yield from self.comparison(i)
        yield from ((node, j) for node, j in self.expression(i) if not isinstance(node, ast.Compare))

    def block(self, i: int) -> Iterator[tuple[list[ast.stmt], int]]:
        """Sentences up to the end of the text or of the block; one at least."""
        for statement, j in self.statement(i):
            if self.token(j) in (None, "otherwise", "end"):
                yield [statement], j
            else:
                yield from (([statement, *rest], end) for rest, end in self.block(j))

    def _statements(self, i: int) -> Iterator[tuple[Any, int]]:
        for statement, j in (*self.compound(i), *self.simple(i)):
            if self.token(j) == ".":
                yield statement, j + 1

    def simple(self, i: int) -> Iterator[tuple[Any, int]]:
        for words, template in _statement_rules():
            for slots, j in self.pattern(words, i):
                yield _build(template, slots), j

    def compound(self, i: int) -> Iterator[tuple[Any, int]]:
        if (j := self.literal("if", i)) is not None:
            for test, k in self.test(j):
                if self.token(k) == "then":
                    for body, end in self.block(k + 1):
                        if self.token(end) == "end":
                            yield ast.If(test, body, []), end + 1
                        elif self.token(end) == "otherwise":
                            for other, last in self.block(end + 1):
                                if self.token(last) == "end":
                                    yield ast.If(test, body, other), last + 1
        elif (j := self.literal("as long as", i)) is not None:
            for test, k in self.test(j):
                yield from ((ast.While(test, body, []), end) for body, end in self.ended(k))
        elif self.literal("for each", i) is not None:
            for slots, k in self.pattern(("for", "each", "_0", "in", "_1"), i):
                yield from ((ast.For(slots["_0"], slots["_1"], body, []), end) for body, end in self.ended(k))
        elif (j := self.literal("to find", i)) is not None and self.literal("of (", j + 1) is not None:
            names, k = self.names(j + 3)
            for body, end in self.block(k + 1):
                if self.token(end) == "end":
                    yield _function(self.tokens[j], names, body), end + 1

    def ended(self, i: int) -> Iterator[tuple[list[ast.stmt], int]]:
        """`do ... end`"""
        if self.token(i) == "do":
            yield from ((body, end + 1) for body, end in self.block(i + 1) if self.token(end) == "end")


# The table, as words and trees

_SLOTS = ("_0", "_1", "_2", "_3")
_Rules = tuple[tuple[tuple[str, ...], Any], ...]


@functools.cache
def _expression_rules() -> _Rules:
    return tuple((tuple(words.split()), ast.parse(code, mode="eval").body) for words, code in _EXPRESSIONS)


@functools.cache
def _statement_rules() -> _Rules:
    return tuple((tuple(words.split()), ast.parse(code).body[0]) for words, code in _STATEMENTS)


def _match(template: Any, node: Any, slots: dict[str, Any]) -> dict[str, Any] | None:
    """What stands in the template's slots when it is laid over the tree; None where they differ."""
    if isinstance(template, ast.Name) and template.id in _SLOTS:
        return {**slots, template.id: node} if isinstance(node, ast.expr) and not isinstance(node, ast.Slice) else None
    if isinstance(template, ast.arg) and template.arg in _SLOTS and isinstance(node, ast.arg):
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
        if (found := _match(part, other, slots)) is None:
            return None
        slots = found
    return slots


def _build(template: Any, slots: dict[str, Any]) -> Any:
    """The template with its slots filled."""
    if isinstance(template, ast.Name) and template.id in slots:
        return slots[template.id]
    if isinstance(template, ast.arg) and template.arg in slots:
        return ast.arg(slots[template.arg].id) if isinstance(slots[template.arg], ast.Name) else template
    if isinstance(template, list):
        return [_build(part, slots) for part in template]
    if isinstance(template, ast.AST):
        return type(template)(**{name: _build(getattr(template, name, None), slots) for name in template._fields})
    return template


def _function(name: str, arguments: list[str], body: list[ast.stmt]) -> ast.FunctionDef:
    given = ast.arguments([], [ast.arg(argument) for argument in arguments], None, [], [], None, [])
    return ast.FunctionDef(name, given, body, [], None)
