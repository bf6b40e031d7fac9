"""Reading a description: every way to parse English made of the phrases back into a syntax tree."""

import ast
import functools
import re
from collections.abc import Iterator
from typing import Any

from pbb_probe.programs.phrases import COMPARISONS, SEQUENCES, SLOTS, build, expression_rules, statement_rules

TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\w+|[^\w\s]""")
OPENERS = {"the", "whether", "both", "all", "at", "what"}


class Reader:
    """Every way to read the tokens from a place on, each as `(what was read, next place)`."""

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self._expression = functools.cache(lambda i: list(self._expressions(i)))
        self._statement = functools.cache(lambda i: list(self._statements(i)))

    def _token(self, i: int) -> str | None:
        return self.tokens[i] if i < len(self.tokens) else None

    def _literal(self, text: str, i: int) -> int | None:
        words = text.split()
        return i + len(words) if self.tokens[i : i + len(words)] == words else None

    def functions(self) -> Iterator[ast.stmt]:
        """Every function as which the whole text can be read."""
        if len(self.tokens) > 3 and self.tokens[1] == "takes":
            names, stop = self._names(2)
            for body, end in self._block(stop + 1):
                if end == len(self.tokens):
                    yield _function(self.tokens[0], [name for name in names if name != "nothing"], body)

    def _names(self, i: int) -> tuple[list[str], int]:
        names = []
        while (token := self._token(i)) is not None and token not in (".", ")"):
            names += [token] if token != "," else []
            i += 1
        return names, i

    def _pattern(self, words: tuple[str, ...], i: int) -> Iterator[tuple[dict[str, Any], int]]:
        if not words:
            yield {}, i
        elif words[0] not in SLOTS:
            if self._token(i) == words[0]:
                yield from self._pattern(words[1:], i + 1)
        else:
            for node, j in self._expression(i):
                for slots, end in self._pattern(words[1:], j):
                    yield {words[0]: node, **slots}, end

    def _pair(self, i: int) -> Iterator[tuple[Any, int]]:
        for slots, j in self._pattern(("the", "pair", "of", "_0", "and", "_1"), i):
            yield (slots["_0"], slots["_1"]), j

    def _sequence(self, i: int, item: Any = None) -> Iterator[tuple[list[Any], int]]:
        """`( a, b )`"""
        item = item or self._expression
        if self._token(i) == "(" and self._token(i + 1) == ")":
            yield [], i + 2
        elif self._token(i) in ("(", ","):
            for node, j in item(i + 1):
                if self._token(j) == ")":
                    yield [node], j + 1
                elif self._token(j) == ",":
                    yield from (([node, *rest], end) for rest, end in self._sequence(j, item))

    def _expressions(self, i: int) -> Iterator[tuple[Any, int]]:
        token = self._token(i)
        if token is None:
            return
        if token not in OPENERS:
            if token[0] in "'\"" or token.isdigit() or token in ("True", "False", "None"):
                yield ast.Constant(ast.literal_eval(token)), i + 1
            elif token.isidentifier():
                yield ast.Name(token, ast.Load()), i + 1
            return
        for words, template in expression_rules():
            for slots, j in self._pattern(words, i):
                yield build(template, slots), j
        if token == "whether":
            yield from self._comparison(i + 1)
        for kind, opening in SEQUENCES.items():
            if (start := self._literal(opening, i)) is not None:
                yield from ((getattr(ast, kind)(elts=items), end) for items, end in self._sequence(start))
        if (start := self._literal("the table", i)) is not None:
            for pairs, end in self._sequence(start, self._pair):
                yield ast.Dict([key for key, _ in pairs], [value for _, value in pairs]), end
        if (start := self._literal("the call of", i)) is not None and (name := self._token(start)) is not None:
            yield from self._called(name, start + 1)

    def _called(self, name: str, i: int) -> Iterator[tuple[ast.expr, int]]:
        if self._token(i) == "with":
            yield from ((ast.Call(ast.Name(name), items, []), end) for items, end in self._sequence(i + 1))
        elif self._token(i) == "on":
            for owner, j in self._expression(i + 1):
                if self._token(j) == "with":
                    for items, end in self._sequence(j + 1):
                        yield ast.Call(ast.Attribute(owner, name), items, []), end

    def _comparison(self, i: int) -> Iterator[tuple[ast.expr, int]]:
        for left, j in self._expression(i):
            for operators, rights, end in self._compared(j):
                yield ast.Compare(left, operators, rights), end

    def _compared(self, i: int) -> Iterator[tuple[list[Any], list[Any], int]]:
        for kind, words in COMPARISONS.items():
            if (j := self._literal(words, i)) is None:
                continue
            for right, end in self._expression(j):
                yield [getattr(ast, kind)()], [right], end
                if (k := self._literal("and that", end)) is not None:
                    for operators, rights, last in self._compared(k):
                        yield [getattr(ast, kind)(), *operators], [right, *rights], last

    def _test(self, i: int) -> Iterator[tuple[ast.expr, int]]:
        yield from self._comparison(i)
        yield from ((node, j) for node, j in self._expression(i) if not isinstance(node, ast.Compare))

    def _block(self, i: int) -> Iterator[tuple[list[ast.stmt], int]]:
        """Sentences up to the end of the text or of the block; one at least."""
        for statement, j in self._statement(i):
            if self._token(j) in (None, "otherwise", "end"):
                yield [statement], j
            else:
                yield from (([statement, *rest], end) for rest, end in self._block(j))

    def _statements(self, i: int) -> Iterator[tuple[Any, int]]:
        for statement, j in (*self._compound(i), *self._simple(i)):
            if self._token(j) == ".":
                yield statement, j + 1

    def _simple(self, i: int) -> Iterator[tuple[Any, int]]:
        for words, template in statement_rules():
            for slots, j in self._pattern(words, i):
                yield build(template, slots), j

    def _compound(self, i: int) -> Iterator[tuple[Any, int]]:
        if (j := self._literal("if", i)) is not None:
            for test, k in self._test(j):
                if self._token(k) == "then":
                    for body, end in self._block(k + 1):
                        if self._token(end) == "end":
                            yield ast.If(test, body, []), end + 1
                        elif self._token(end) == "otherwise":
                            for other, last in self._block(end + 1):
                                if self._token(last) == "end":
                                    yield ast.If(test, body, other), last + 1
        elif (j := self._literal("as long as", i)) is not None:
            for test, k in self._test(j):
                yield from ((ast.While(test, body, []), end) for body, end in self._ended(k))
        elif self._literal("for each", i) is not None:
            for slots, k in self._pattern(("for", "each", "_0", "in", "_1"), i):
                yield from ((ast.For(slots["_0"], slots["_1"], body, []), end) for body, end in self._ended(k))
        elif (j := self._literal("to find", i)) is not None and self._literal("of (", j + 1) is not None:
            names, k = self._names(j + 3)
            for body, end in self._block(k + 1):
                if self._token(end) == "end":
                    yield _function(self.tokens[j], names, body), end + 1

    def _ended(self, i: int) -> Iterator[tuple[list[ast.stmt], int]]:
        """`do ... end`"""
        if self._token(i) == "do":
            yield from ((body, end + 1) for body, end in self._block(i + 1) if self._token(end) == "end")


def _function(name: str, arguments: list[str], body: list[ast.stmt]) -> ast.FunctionDef:
    signature = ast.arguments([], [ast.arg(argument) for argument in arguments], None, [], [], None, [])
    return ast.FunctionDef(name, signature, body, [], None)
