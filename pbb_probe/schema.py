"""The types of fields and arguments: each kind of number, name and list is declared here once, with range and wording.

A field of a configuration, or an argument of a function, has one of these types, and `check_fields` or `checked` checks
the value given. Pydantic is strict about it: neither true nor "3" nor NaN is a number.
"""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, InstanceOf, TypeAdapter, ValidationError

from pbb_probe.errors import PbbError
from pbb_probe.rules import Rule as Rule
from pbb_probe.rules import is_printable as is_printable
from pbb_probe.rules import listed as listed
from pbb_probe.rules import number as number
from pbb_probe.rules import text as text
from pbb_probe.rules import whole as whole

CLASSES = ("xr.Dataset", "xr.DataArray", "pd.DataFrame", "Prompts", "Corpus")
"""Classes that are checked by the names in annotations, without importing the modules that define them."""
P = ParamSpec("P")
R = TypeVar("R")


Count = Annotated[int, whole(1, 10**7)]
"""Of prompts or calls."""
Lines = Annotated[int, whole(1, 10**6)]
"""That a call of a program may run."""
PairCount = Annotated[int, whole(1, 100_000)]
"""Of pairs of prompts: many more are drawn and tried for each that is wanted."""
Draws = Annotated[int, whole(1, 10**6)]
"""Bootstrap resamples and permutations, held in memory for all places at once."""
Folds = Annotated[int, whole(2, 100_000)]
Seed = Annotated[int, whole(0, 2**32 - 1)]
"""As accepted by the random generators of NumPy, scikit-learn and PyTorch."""
Layer = Annotated[int, whole(0, 9999)]
BatchSize = Annotated[int, whole(1, 2**20)]
Share = Annotated[float, number(1, least=0)]
Finite = Annotated[float, number(1e12, least=-1e12)]
Margin = Annotated[float, number(1e12, above=0)]
"""The smallest difference that would matter."""
PositiveShare = Annotated[float, number(1, above=0)]
Strength = Annotated[float, number(1e5, least=1e-6)]
"""Inverse regularisation strength of a probe. Outside this range the fit's tolerance or rounding would decide."""
Strengths = Annotated[tuple[Strength, ...], listed("numbers from 1e-06 to 100000", most=100)]
Gibibytes = Annotated[float, number(1e6, above=0)]
Name = Annotated[str, text("a name of 1 to 200 printable characters", 200)]
Text = Annotated[str, text("a text of at most 1000 printable characters", 1000, blank=True)]
Place = Annotated[
    str,
    text(
        "a path or name of 1 to 4096 printable characters",
        4096,
        AfterValidator(lambda value: Path(value).expanduser() and value),  # refuses the home of an unknown user
        BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value),
    ),
]
"""A file or directory, or the name of a model."""
Names = Annotated[tuple[Name, ...], listed("names")]
NamesIfAny = Annotated[tuple[Name, ...], listed("names", 0)]
Layers = Annotated[tuple[Layer, ...], listed("layers, counted from 0", most=10_000)]

# The same for arguments of functions, which take any sequence

AnyPlace = Annotated[str | Path, *get_args(Place)[1:]]
NameList = Annotated[Sequence[Name], *get_args(Names)[1:]]
NameListIfAny = Annotated[Sequence[Name], *get_args(NamesIfAny)[1:]]
LayerList = Annotated[Sequence[Layer], *get_args(Layers)[1:]]
StrengthList = Annotated[Sequence[Strength], *get_args(Strengths)[1:]]
PositionList = Annotated[
    Sequence[Annotated[int, whole(0, 10**7)]], listed("names of roles, or positions counted from 0", most=10**6)
]
FoldList = Annotated[
    Sequence[Annotated[int, whole(-1, 10**6)]], listed("fold numbers, one a prompt", most=10**7, repeated=True)
]


def check_fields(config: Any, at: str = "") -> None:
    """Check each field of a frozen dataclass against its type, as the first thing in its `__post_init__`.

    Args:
        config: the dataclass.
        at: the prefix of its fields in a configuration file, such as `probing.`.

    Raises:
        PbbError: a value that is not of its field's type.
    """
    for name, kind in field_types(config.__class__).items():
        object.__setattr__(config, name, checked(at + name, getattr(config, name), kind))


_PAIRS = "give pairs, as transfer_map(model, pairs): their corrupted prompts are the base, the clean ones the donor"
_SETTINGS = "give settings=SweepSettings(...) of patching.sweep"
FORMER = {
    ("transfer_map", "base"): _PAIRS,
    ("transfer_map", "source"): _PAIRS,
    ("patch_sweep", "source"): "it is replace_with now",
    ("patch_sweep", "source_model"): "it is donor_model now",
    **{("patch_sweep", name): _SETTINGS for name in ("whole_spans", "only", "memory_gib", "resume")},
    **{("transfer_map", name): _SETTINGS for name in ("whole_spans", "only", "memory_gib", "resume")},
    ("fit_probes", "types"): "give controls={'selectivity': types}",
    ("fit_probes", "relabelled"): "give controls={'relabelled': values}",
    ("fit_probes", "elsewhere"): "give controls={name: activations}",
    **{(name, "cluster"): "it is clusters now, the name of a coordinate" for name in ("transfer", "outcomes")},
    ("probes", "targets"): "the arrays have them as labels: tables.probes(probes, by=, clusters=)",
}
"""Arguments of the previous release by function and name, and what to write instead."""


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose arguments are checked against their types before it is called.

    Only the types of this module, booleans, and the classes named in `CLASSES` are checked; other arguments are left to
    the function.

    Raises:
        PbbError: an argument that is not of its type.
    """
    annotations = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    kinds = {name: kind for name, kind in annotations.items() if kind is bool or _is_ruled(kind)}
    classes = {name: _class_name(kind) for name, kind in annotations.items() if _class_name(kind)}
    signature = inspect.signature(function)

    @functools.wraps(function)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if advice := FORMER.get((function.__name__, name)):
                raise PbbError(f"{function.__name__} takes no {name!r} any more: {advice}.")
        call = signature.bind(*args, **kwargs)
        for name in kinds.keys() & call.arguments.keys():
            call.arguments[name] = checked(name, call.arguments[name], kinds[name])
        for name in classes.keys() & call.arguments.keys():
            if classes[name] not in [base.__name__ for base in type(call.arguments[name]).__mro__]:
                raise PbbError(f"{name} must be a {classes[name]}, not {shown(call.arguments[name])}.")
        return function(*call.args, **call.kwargs)

    return held


def _class_name(annotation: Any) -> str:
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name.rpartition(".")[2] if name in CLASSES else ""


def _is_ruled(kind: Any) -> bool:
    """Does a type, or a member of a union, have a rule?"""
    return any(isinstance(part, Rule) or _is_ruled(part) for part in get_args(kind))


def checked(name: str, value: Any, kind: Any) -> Any:
    """A value converted to its type: a list to a tuple, a NumPy number to Python's.

    Args:
        name: the user's name for it, such as `probing.folds`.
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
    except (RuntimeError, TypeError, ArithmeticError) as error:  # which odd objects raise when inspected
        raise PbbError(f"{name} must be {described(kind)}, not {shown(value)}.") from error


def refuse_unknown(kind: str, given: Iterable[Any], known: Collection[Any], at: str = "") -> None:
    """Refuse unknown names.

    Args:
        kind: what is named, such as `site`.
        given: the names.
        known: the possible names.
        at: the field that contains them.

    Raises:
        PbbError: names the first unknown one.
    """
    for name in given:
        if name not in known:
            where = f" in {at}" if at else ""
            raise PbbError(f"Unknown {kind} {name!r}{where}: choose from {', '.join(map(str, known))}.")


def described(kind: Any) -> str:
    """A description of the values of this type."""
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
    """Is the type a configuration, with fields of its own?"""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    if is_configuration(kind):
        return TypeAdapter(InstanceOf[kind])
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _missed(error: ValidationError, kind: Any) -> str:
    """What the value must be: for a number outside its range the bound, otherwise the description of the type."""
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
    """The repr of a value, with the middle of a long one left out."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if abs(x) < 10**30 else f"a number of {x.bit_length()} bits"


def shown(value: Any) -> str:
    """A value as quoted in an error message: on one line, and cut if it is long."""
    short = _Short()
    short.maxstring = short.maxother = 80
    try:
        written = short.repr(value)
    except Exception:  # whatever an object's own repr raises
        written = f"a {type(value).__name__}"
    return {"None": "null", "True": "true", "False": "false"}.get(written, " ".join(written.split())[:200])
