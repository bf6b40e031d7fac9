"""What values may be: each kind of number, name and list stands here once, with its range and its words.

A field of a configuration, or an argument of a function, is declared with one of these types, and `check_fields` or
`checked` holds what is given to it. Pydantic does so strictly: true is no number, "3" is none, and NaN is none either.
"""

import dataclasses
import functools
import inspect
import numbers
import operator
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError

from pbb_probe.errors import PbbError

CLASSES = ("xr.Dataset", "xr.DataArray", "pd.DataFrame", "Prompts", "Corpus")
"""By the names that annotations have, where what defines them is not imported for the sake of a name."""
P = ParamSpec("P")
R = TypeVar("R")


class Rule:
    """What a type asks for beyond itself: pydantic's checks, and the words that say them.

    Pydantic's own metadata in a type would be run by the parser of the command line too, which words it at length.
    """

    def __init__(self, words: str, *checks: Any):
        self.words, self.checks = words, checks

    def __repr__(self) -> str:
        return self.words

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The schema of the type with the checks on it."""
        return handler.generate_schema(Annotated[(source, *self.checks)])


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _as_tuple(value: Any) -> Any:
    if hasattr(value, "tolist") and not isinstance(value, str):  # of NumPy
        value = value.tolist()
    return tuple(value) if isinstance(value, (list, range)) else value


def _distinct(value: Sequence[Any]) -> Sequence[Any]:
    if len(set(value)) < len(value):
        raise ValueError("an entry stands there twice")
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
    """A whole number from one bound to another."""
    plain = BeforeValidator(lambda value: operator.index(value) if _is_number(value, numbers.Integral) else value)
    return Rule(f"a whole number from {least} to {most}", Field(ge=least, le=most), plain)


def number(most: float, *, above: float | None = None, least: float | None = None) -> Rule:
    """A finite number that is above one bound, or at least that, and at most another."""
    plain = BeforeValidator(lambda value: float(value) if _is_number(value, numbers.Real) else value)
    start = f"above {above:g}" if above is not None else f"from {least:g}"
    words = f"a number {start} {'and at most' if above is not None else 'to'} {most:g}"
    return Rule(words, Field(gt=above, ge=least, le=most, allow_inf_nan=False), plain)


def text(words: str, longest: int, *more: Any, blank: bool = False) -> Rule:
    """A printable text of limited length, and not only of spaces unless it may be blank."""
    shortest = () if blank else (AfterValidator(_not_blank),)
    return Rule(words, Field(max_length=longest), AfterValidator(_printable), *shortest, *more)


def listed(what: str, least: int = 1, most: int = 1000, *, repeated: bool = False) -> Rule:
    """A list or tuple of so many entries, no two of which are equal unless they may be."""
    words = f"a list of {'one or more ' if least else ''}{'' if repeated else 'different '}{what}"
    distinct = () if repeated else (AfterValidator(_distinct),)
    return Rule(words, Field(min_length=least, max_length=most), *distinct, BeforeValidator(_as_tuple))


Count = Annotated[int, whole(1, 10**7)]
"""Of prompts or calls."""
PairCount = Annotated[int, whole(1, 100_000)]
"""Of pairs of runs: many more are drawn and tried for each that is wanted."""
Draws = Annotated[int, whole(1, 10**6)]
"""Bootstrap resamples and permutations, which are held in memory for all places together."""
Folds = Annotated[int, whole(2, 100_000)]
Seed = Annotated[int, whole(0, 2**32 - 1)]
"""As the random generators of NumPy, scikit-learn and PyTorch all take it."""
Layer = Annotated[int, whole(0, 9999)]
BatchSize = Annotated[int, whole(1, 2**20)]
Share = Annotated[float, number(1, least=0)]
Finite = Annotated[float, number(1e12, least=-1e12)]
Margin = Annotated[float, number(1e12, above=0)]
"""The smallest difference that would matter."""
PositiveShare = Annotated[float, number(1, above=0)]
Strength = Annotated[float, number(1e5, least=1e-6)]
"""Inverse regularisation strength of a probe. Below, coefficients are lost in the fit's tolerance; above, in rounding.
"""
Strengths = Annotated[tuple[Strength, ...], listed("numbers from 1e-06 to 100000", most=100)]
Gibibytes = Annotated[float, number(1e6, above=0)]
Name = Annotated[str, text("a name of 1 to 200 printable characters", 200)]
Text = Annotated[str, text("a text of at most 1000 printable characters", 1000, blank=True)]
Place = Annotated[
    str,
    text(
        "a path or name of 1 to 4096 printable characters",
        4096,
        AfterValidator(lambda value: Path(value).expanduser() and value),  # ~nobody is nobody's home
        BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value),
    ),
]
"""Of a file or directory, or a model by name."""
Names = Annotated[tuple[Name, ...], listed("names")]
NamesIfAny = Annotated[tuple[Name, ...], listed("names", 0)]
Layers = Annotated[tuple[Layer, ...], listed("layers, counted from 0", most=10_000)]

# The same for arguments of functions, which take any sequence

AnyPlace = Annotated[str | Path, *get_args(Place)[1:]]
NameList = Annotated[Sequence[Name], *get_args(Names)[1:]]
LayerList = Annotated[Sequence[Layer], *get_args(Layers)[1:]]
StrengthList = Annotated[Sequence[Strength], *get_args(Strengths)[1:]]
PositionList = Annotated[
    Sequence[Annotated[int, whole(0, 10**7)]], listed("names of roles, or positions counted from 0", most=10**6)
]
FoldList = Annotated[
    Sequence[Annotated[int, whole(-1, 10**6)]], listed("fold numbers, one a prompt", most=10**7, repeated=True)
]


def check_fields(config: Any, at: str = "") -> None:
    """Hold each field of a frozen dataclass to its type, as the first thing in its `__post_init__`.

    Args:
        config: that is being made.
        at: what stands before its fields' names in a configuration file, such as `probing.`.

    Raises:
        PbbError: a value that is not of its field's type.
    """
    for name, kind in field_types(config.__class__).items():
        object.__setattr__(config, name, checked(at + name, getattr(config, name), kind))


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose arguments are held to their types before it is called.

    These are the types of this module, booleans, and the classes named in `CLASSES`; of any other it is the function
    that says what is wrong.

    Raises:
        PbbError: an argument that is not of its type.
    """
    annotations = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    kinds = {name: kind for name, kind in annotations.items() if kind is bool or _is_ruled(kind)}
    classes = {name: _class_name(kind) for name, kind in annotations.items() if _class_name(kind)}
    signature = inspect.signature(function)

    @functools.wraps(function)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        for name in kinds.keys() & given.arguments.keys():
            given.arguments[name] = checked(name, given.arguments[name], kinds[name])
        for name in classes.keys() & given.arguments.keys():
            if classes[name] not in [base.__name__ for base in type(given.arguments[name]).__mro__]:
                raise PbbError(f"{name} must be a {classes[name]}, not {shown(given.arguments[name])}.")
        return function(*given.args, **given.kwargs)

    return held


def _class_name(annotation: Any) -> str:
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name.rpartition(".")[2] if name in CLASSES else ""


def _is_ruled(kind: Any) -> bool:
    """Does a type, or one of those that it is a union of, have a rule?"""
    return any(isinstance(part, Rule) or _is_ruled(part) for part in get_args(kind))


def checked(name: str, value: Any, kind: Any) -> Any:
    """A value as its type has it: a list as a tuple, a NumPy number as Python's.

    Args:
        name: how the user knows it, such as `probing.folds`.
        value: what was given.
        kind: the type, such as `Count` or `Names | None`.

    Raises:
        PbbError: the value is not of this type.

    Example:
        >>> from pbb_probe.schema import Folds, checked
        >>> checked("folds", 1, Folds)
        Traceback (most recent call last):
        pbb_probe.errors.PbbError: folds must be at least 2, not 1.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise PbbError(f"{name} must be {_missed(error, kind)}, not {shown(value)}.") from error
    except (RuntimeError, TypeError, ArithmeticError) as error:  # what odd objects raise when they are looked at
        raise PbbError(f"{name} must be {described(kind)}, not {shown(value)}.") from error


def refuse_unknown(kind: str, given: Iterable[Any], known: Collection[Any], at: str = "") -> None:
    """Refuse names that are not among those that there are.

    Args:
        kind: what is named, such as `site`.
        given: the names.
        known: those that there are.
        at: the field they stand in.

    Raises:
        PbbError: with the first unknown one.
    """
    for one in given:
        if one not in known:
            where = f" in {at}" if at else ""
            raise PbbError(f"Unknown {kind} {one!r}{where}: choose from {', '.join(map(str, known))}.")


def described(kind: Any) -> str:
    """What a value of this type is, in words."""
    match get_origin(kind):
        case origin if origin is Annotated:
            return next(rule.words for rule in get_args(kind)[1:] if isinstance(rule, Rule))
        case origin if origin is Literal:
            return f"one of {', '.join(map(str, get_args(kind)))}"
        case origin if origin in (Union, UnionType):
            return " or ".join(map(described, get_args(kind)))
        case origin if origin is dict:
            return "a mapping from {} to {}".format(*map(described, get_args(kind)))
    plain = {bool: "true or false", NoneType: "null", str: "a text"}
    return plain.get(kind, "a mapping of fields")


@functools.cache
def field_types(cls: Any) -> dict[str, Any]:
    """The type of each field of a dataclass, with its rules."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def is_configuration(kind: Any) -> bool:
    """Is the type a part of a configuration, with fields of its own?"""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def is_printable(value: str) -> bool:
    """Can a text be written to files? Neither control characters nor halves of characters are in it."""
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", value)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    if is_configuration(kind):
        return TypeAdapter(InstanceOf[kind])
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _missed(error: ValidationError, kind: Any) -> str:
    """Where a number is outside its range, the bound that it misses; else what the type asks for."""
    first = error.errors(include_url=False)[0]
    bound = first.get("ctx", {})
    if not first["loc"]:
        match first["type"]:
            case "greater_than_equal":
                return f"at least {bound['ge']:g}" if abs(bound["ge"]) < 1e6 else f"at least {bound['ge']}"
            case "greater_than":
                return f"above {bound['gt']:g}"
            case "less_than_equal":
                return f"at most {bound['le']:.12g}"
            case "finite_number":
                return "a finite number"
    return described(kind)


class _Short(Repr):
    """A value in a sentence: its beginning and its end."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if abs(x) < 10**30 else f"a number of {x.bit_length()} bits"


def shown(value: Any) -> str:
    """A value as it is quoted in a sentence, on one line and cut where it is long."""
    short = _Short()
    short.maxstring = short.maxother = 80
    try:
        said = short.repr(value)
    except Exception:  # whatever an object's own repr raises
        said = f"a {type(value).__name__}"
    return {"None": "null", "True": "true", "False": "false"}.get(said, " ".join(said.split()))
