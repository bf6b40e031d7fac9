"""Descriptions: programs in English, made by rule, and read back by the same rules to prove that nothing is lost.

One table pairs each English phrase with the Python it stands for. `describe` matches the program's syntax tree against
the Python column, `read_description` parses text against the English column. Phrases begin with words of their own and
have a fixed number of slots, so that no brackets are needed. What `describe` returns has been read back into the same
program.
"""

import ast
import functools
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.phrases import COMPARISONS, SEQUENCES, expression_rules, match, statement_rules
from pbb_probe.programs.reader import TOKEN, Reader
from pbb_probe.programs.syntax import parsed, read


@functools.lru_cache(maxsize=4096)
def describe(source: str) -> str:
    """The function in English, such as `dolvik takes x. let y be the sum of x and 3. the result is y.`

    Raises:
        PbbError: the rules have no words for it, or its words could also mean another program.
    """
    text, function = _told(source), parsed(source)
    if _read(text) != [ast.unparse(function)]:
        raise PbbError(f"This cannot be described without loss: write it in simpler statements: {source[:200]!r}.")
    return text


def read_description(text: str) -> str:
    """The source that a description describes, in the layout of `ast.unparse`.

    Raises:
        PbbError: the text is not a description, or describes several programs.
    """
    sources = _read(text)
    if len(sources) != 1 or TOKEN.findall(_told(sources[0])) != TOKEN.findall(text):
        raise PbbError(f"This is no description of one program: {text[:200]!r}.")
    return sources[0]


def _read(text: str) -> list[str]:
    """All sources as which a text can be read."""
    try:
        functions = list(Reader(TOKEN.findall(text)).functions())
        return sorted({ast.unparse(ast.fix_missing_locations(function)) for function in functions})
    except (SyntaxError, ValueError, RecursionError) as error:  # a literal that is none, or too deep
        raise PbbError(f"This cannot be read as a description ({error}): {text[:200]!r}.") from error


def _told(source: str) -> str:
    try:
        match read(source).body:
            case [ast.FunctionDef() as function]:
                arguments = _listed(arg.arg for arg in function.args.args) or "nothing"
                return " ".join([_sentence([function.name, "takes", arguments]), *map(_tell, function.body)])
    except (SyntaxError, RecursionError):
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
    for words, template in statement_rules():
        if (slots := match(template, node, {})) is not None:
            return _sentence([_fill(words, slots)])
    raise _wordless(node)


def _word(node: Any) -> str:
    """An expression as a noun phrase."""
    for words, template in expression_rules():
        if (slots := match(template, node, {})) is not None:
            return _fill(words, slots)
    match node:
        case ast.Constant() | ast.Name():
            return ast.unparse(node)
        case ast.Compare():
            return f"whether {_comparison(node)}"
        case ast.List() | ast.Tuple() | ast.Set():
            return f"{SEQUENCES[type(node).__name__]} ( {_listed(map(_word, node.elts))} )"
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
        f"{COMPARISONS[type(op).__name__]} {_word(right)}" for op, right in zip(node.ops, node.comparators, strict=True)
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
