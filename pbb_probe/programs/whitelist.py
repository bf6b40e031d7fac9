"""What a program may contain: its syntax tree is checked against a whitelist before any of it runs.

Nearly all of Python that computes is allowed. What would lead out of the computation is refused on every machine,
whether or not its kernel confines the child process: attributes other than methods of values and names of the modules
in `MODULES`; names with two underscores before them; `getattr`, `eval`, `open` and the like; `str.format` of anything
but a literal whose fields name no attribute and no item; class patterns with parts; decorators other than those that
cache and the program's own; classes, `with` and `async`. What can only take time or memory is allowed, since the child
process is limited in both.
"""

import ast
import builtins
import string
from collections.abc import Iterable, Iterator, Set

from pbb_probe.programs.syntax import read
from pbb_probe.programs.values import not_run
from pbb_probe.schema import shown

LONGEST_SOURCE = 20_000  # characters

STATEMENTS = (
    *(ast.FunctionDef, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For, ast.While, ast.If),
    *(ast.Break, ast.Continue, ast.Pass, ast.Expr, ast.Delete, ast.Try, ast.Raise, ast.Assert, ast.Global),
    *(ast.Nonlocal, ast.Import, ast.ImportFrom, ast.Match),
)
EXPRESSIONS = (
    *(ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare, ast.Call, ast.Constant, ast.Name, ast.NamedExpr),
    *(ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Lambda, ast.Starred, ast.Attribute),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.JoinedStr, ast.FormattedValue),
    *(ast.Yield, ast.YieldFrom),
)
PARTS = (
    *(ast.comprehension, ast.arguments, ast.arg, ast.keyword, ast.ExceptHandler, ast.alias, ast.match_case),
    *(ast.MatchValue, ast.MatchSingleton, ast.MatchSequence, ast.MatchMapping, ast.MatchStar, ast.MatchAs),
    *(ast.MatchOr, ast.MatchClass, ast.Load, ast.Store, ast.Del),
)
OPERATORS = [
    operator for kind in (ast.operator, ast.unaryop, ast.boolop, ast.cmpop) for operator in kind.__subclasses__()
]
NODES = frozenset((*STATEMENTS, *EXPRESSIONS, *PARTS, *OPERATORS))
CONSTANTS = frozenset((int, float, str, bytes, bool, type(None)))

BUILTINS = frozenset(
    """
    abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format frozenset
    hex int isinstance issubclass iter len list map max min next object oct ord pow range repr reversed round set slice
    sorted str sum tuple type zip
    Exception ArithmeticError AssertionError AttributeError EOFError FileNotFoundError FloatingPointError IOError
    ImportError IndexError KeyError LookupError NameError NotImplementedError OSError OverflowError RecursionError
    RuntimeError StopIteration SyntaxError TypeError UnboundLocalError UnicodeDecodeError UnicodeEncodeError
    UnicodeError ValueError ZeroDivisionError
    """.split()  # noqa: SIM905
)
MODULES: dict[str, tuple[str, ...]] = {
    name: tuple(names.split())
    for name, names in {
        "__future__": "annotations division generator_stop print_function",
        "array": "array",
        "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
        "cmath": "e exp inf log log10 nan phase pi polar rect sqrt tau",
        "collections": "ChainMap Counter OrderedDict defaultdict deque",
        "collections.abc": "Callable Collection Container Generator Hashable Iterable Iterator Mapping MutableMapping "
        "MutableSequence MutableSet Reversible Sequence Set Sized",
        "copy": "copy deepcopy",
        "decimal": "Decimal ROUND_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP",
        "fractions": "Fraction",
        "functools": "cache cmp_to_key lru_cache partial reduce",
        "hashlib": "md5 sha1 sha256",
        "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
        "itertools": "accumulate chain combinations combinations_with_replacement compress count cycle dropwhile "
        "filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest",
        "math": "acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp "
        "exp2 expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm "
        "ldexp lgamma log log10 log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt tan "
        "tanh tau trunc ulp",
        "operator": "abs add and_ concat contains countOf delitem eq floordiv ge getitem gt index indexOf inv invert "
        "is_ is_not itemgetter le lshift lt mod mul ne neg not_ or_ pos pow rshift setitem sub truediv truth xor",
        "re": "A ASCII DOTALL I IGNORECASE M MULTILINE S U UNICODE VERBOSE X compile escape findall finditer fullmatch "
        "match search split sub subn",
        "statistics": "fmean geometric_mean harmonic_mean mean median median_high median_low mode multimode pstdev "
        "pvariance stdev variance",
        "string": "ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits printable "
        "punctuation whitespace",
        "sys": "maxsize setrecursionlimit",
        "typing": "AbstractSet Any AnyStr Callable Collection Counter DefaultDict Deque Dict Final FrozenSet Generator "
        "Hashable Iterable Iterator List Literal Mapping MutableMapping MutableSequence MutableSet NoReturn Optional "
        "OrderedDict Reversible Sequence Set Sized Text Tuple Type TypeVar Union cast",
        "unicodedata": "bidirectional category combining decimal digit lookup mirrored name normalize numeric",
    }.items()
}
"""What may be imported, with the names that a program can use, all of them by `*`."""
METHODS = frozenset(
    name
    for kind in (int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict)
    for name in dir(kind)
    if not name.startswith("_")
) - {"format", "format_map"} | frozenset(
    # of what the modules make: counters, ordered dicts, deques, patterns, matches, chains, caches, hashes; of errors;
    # of generators
    """
    most_common elements subtract total move_to_end appendleft popleft extendleft rotate match search findall finditer
    fullmatch sub subn group groups groupdict start end span pattern string from_iterable cache_clear digest hexdigest
    quantize limit_denominator args maxlen default_factory send close
    """.split()  # noqa: SIM905
)
DECORATORS = frozenset(("cache", "lru_cache"))

_IN_WORDS: dict[str, str] = {
    "ClassDef": "a class",
    "TryStar": "except*",
    "AsyncFunctionDef": "async",
    "AsyncFor": "async",
    "AsyncWith": "async",
}


def check_source(name: str, source: str, callable_names: Iterable[str] = ()) -> None:
    """Check a source against the whitelist. Nothing is run.

    Args:
        name: the function that is called, which the source must define.
        source: Python text.
        callable_names: other programs that it may call by name.

    Raises:
        PbbError: names the program, the line and what is not allowed there.
    """
    tree = _module(name, source)
    nodes = list(_walk(tree))
    own = set(callable_names) | set(bound_names(node for node, _ in nodes))
    known = BUILTINS | own
    for node, line in nodes:
        if complaint := _complaint(node, own, known):
            raise not_run(name, f"line {line}: {complaint}")


def bound_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Every name that these nodes bind: a call of such a name calls something of the program's own."""
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case ast.ImportFrom(module=str(module), names=[ast.alias(name="*")]):
                yield from MODULES.get(module, ())
            case ast.alias(name=name, asname=asname):
                yield asname or name


def imported(sources: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The modules that sources import, each with the names that there are in it."""
    found = set()
    for node in (node for source in sources if "import" in source for node in ast.walk(read(source))):
        match node:
            case ast.Import(names=aliases):
                found |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
    return {name: names for name, names in MODULES.items() if name in found}


def _module(name: str, source: str) -> ast.Module:
    """The tree of a source that defines the function."""
    if not isinstance(name, str) or not name.isidentifier():
        raise not_run(shown(name), "a program's name must be a Python name")
    if isinstance(source, str) and len(source) > LONGEST_SOURCE:
        raise not_run(name, f"its source has {len(source)} characters, and {LONGEST_SOURCE} are allowed")
    try:
        tree = read(source)
    except SyntaxError as error:
        raise not_run(name, str(error)) from None
    if not any(isinstance(statement, ast.FunctionDef) and statement.name == name for statement in tree.body):
        raise not_run(name, f"its source must define a function called {name:.60}")
    return tree


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, int]]:
    """Every node that is evaluated with its line, in the order of the source; annotations are not."""
    pending: list[tuple[ast.AST, int]] = [(statement, statement.lineno) for statement in reversed(tree.body)]
    while pending:  # without recursion, which has a limit of depth
        node, line = pending.pop()
        line = getattr(node, "lineno", line)
        yield node, line
        unread = {id(getattr(node, field, None)) for field in ("annotation", "returns")}
        parts = [part for part in ast.iter_child_nodes(node) if id(part) not in unread]
        pending.extend((part, line) for part in reversed(parts))


def _complaint(node: ast.AST, own: Set[str], known: Set[str]) -> str | None:
    """What is wrong with this node, apart from its children.

    Args:
        node: of a program.
        own: the names that the program binds, and the programs that it may call.
        known: these and the builtins.
    """
    if isinstance(node, ast.Name) and node.id == "__name__" and isinstance(node.ctx, ast.Load):
        return None
    for name in (*bound_names([node]), node.id if isinstance(node, ast.Name) else ""):
        if name.startswith("__") and name.strip("_"):
            return f"the name {name:.60} begins with two underscores, which is not allowed"
    match node:
        case ast.Call(func=ast.Name(id=name)) if name not in known:
            return f"a call of {name:.60} is not allowed"
        case ast.Call(func=ast.Attribute() as method):
            return _complaint_about_attribute(method, "method")
        case ast.Name(id=name, ctx=ast.Load()) if name not in known and hasattr(builtins, name):
            return f"the name {name:.60} is not allowed"
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return next((f"the name {name:.60} is not allowed" for name in names if name.startswith("__")), None)
        case ast.FunctionDef() if not all(_is_cache(each) or _names(each) in own for each in node.decorator_list):
            return "a decorator other than functools.cache, lru_cache and the program's own functions is not allowed"
        case ast.Constant() if type(node.value) not in CONSTANTS and node.value is not ...:
            return f"the constant {shown(node.value):.60} is not allowed"
        case ast.comprehension() if node.is_async:
            return "async is not allowed"
        case ast.Import() | ast.ImportFrom():
            return _complaint_about_import(node)
        case ast.MatchClass() if node.kwd_patterns or len(node.patterns) > 1:
            return "a pattern that looks into an object is not allowed"
        case ast.Attribute():
            return _complaint_about_attribute(node, "attribute")
    if type(node) not in NODES:
        kind = type(node).__name__
        return f"{_IN_WORDS.get(kind, kind.lower())} is not allowed"
    return None


def _complaint_about_attribute(node: ast.Attribute, what: str) -> str | None:
    if not isinstance(node.ctx, ast.Load):
        return f"an assignment to the attribute {node.attr:.60} is not allowed"
    if node.attr == "__name__" and isinstance(node.value, ast.Call):
        return None if getattr(node.value.func, "id", "") == "type" else f"the {what} __name__ is not allowed"
    if node.attr == "format":
        return _complaint_about_format(node.value)
    if node.attr in METHODS or any(node.attr in names for names in MODULES.values()):
        return None
    return f"the {what} {node.attr:.60} is not allowed"


def _complaint_about_format(text: ast.expr) -> str | None:
    """Fields of `str.format` can reach into objects, so they must be seen here."""
    if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
        return "the method format is not allowed except of a literal text: use an f-string"
    pending = [text.value]
    try:
        while pending:
            for _, field, form, _ in string.Formatter().parse(pending.pop()):
                if field and set(field) & set(".["):
                    return f"the field {field:.60} of a format is not allowed: it looks into an object"
                if form:
                    pending.append(form)
    except ValueError as error:
        return f"the format cannot be read ({error})"
    return None


def _complaint_about_import(node: ast.Import | ast.ImportFrom) -> str | None:
    if isinstance(node, ast.Import):
        modules, names = [alias.name for alias in node.names], []
    else:
        modules, names = ["." * node.level + (node.module or "")], [alias.name for alias in node.names]
    for module in modules:
        if module in MODULES and "." in module and isinstance(node, ast.Import):
            return f"the import of {module} is not allowed except by `from {module} import`"
        if module not in MODULES:
            return f"the import of {module:.60} is not allowed: there are {', '.join(MODULES)}"
        for name in names:
            everything = name == "*" and node.col_offset == 0  # Python has it only outside of functions
            if not everything and name not in MODULES[module]:
                return f"the import of {name:.60} from {module} is not allowed"
    return None


def _is_cache(decorator: ast.expr) -> bool:
    match decorator:
        case ast.Call(func=function):
            return _is_cache(function)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in DECORATORS
    return False


def _names(decorator: ast.expr) -> str | None:
    """The name by which a decorator is called, if it has one."""
    match decorator:
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            return name
    return None
