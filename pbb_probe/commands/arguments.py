"""The arguments of the command line, and the YAML file they may name, as the configuration of one command.

Jsonargparse reads both. Here a file is checked before it is read, and any error becomes one sentence.
"""

import json
import re
import sys
from argparse import Action, ArgumentError
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import (  # type: ignore[attr-defined]
    ActionConfigFile,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    set_parsing_settings,
)

from pbb_probe.errors import PbbError
from pbb_probe.schema import described, field_types, is_configuration, is_printable, shown

LARGEST_FILE = 1 << 20
"""Bytes of a configuration file; the longest here has 2000."""
MOST_NODES = 10_000
"""Entries of a configuration with its aliases written out."""
DEEPEST = 20
RENAMED = {"source": "replace_with", "source_model": "donor_model"}
"""Fields of the previous release, and what they are called now."""
TAGS = {*yaml.SafeLoader.yaml_constructors, "tag:yaml.org,2002:merge"}


Commands = Mapping[str, tuple[type, Callable[[Any], None]]]
"""Each command's configuration and function."""
Defaults = Callable[[type, Any], Mapping[str, Any]]
"""Further defaults by dotted name, which depend on what was given: of a command's configuration and its values."""


def read_arguments(
    arguments: Sequence[str] | None,
    commands: Commands,
    positional: Sequence[str],
    defaults: Defaults = lambda settings, values: {},
) -> tuple[str, Any]:
    """The command named and its configuration.

    Args:
        arguments: what follows `pbb-probe`; the arguments of this process when None.
        commands: by name.
        positional: commands whose required fields are given without a flag.
        defaults: of fields that are not given, in place of their own.

    Raises:
        PbbError: arguments or a file that cannot be read, or an invalid configuration.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    named = next((argument for argument in given if argument in commands), "")
    _refuse_odd(given, commands[named][0] if named else None)
    try:
        parsed = _parser(commands, positional).parse_args(given)
        if other := defaults(commands[parsed.command][0], parsed[parsed.command]):
            parsed = _parser(commands, positional, {parsed.command: other}).parse_args(given)
    except PbbError:
        raise
    except ArgumentError as error:
        raise PbbError(_sentence(str(error), named, commands)) from error
    except Exception as error:  # the parser's own errors on odd values
        reason = " ".join(str(error).split())[:200]
        raise PbbError(f"The arguments cannot be read ({reason}): see pbb-probe {named} --help.") from error
    return parsed.command, _made(commands[parsed.command][0], parsed[parsed.command])


def _refuse_odd(arguments: Sequence[str], settings: type | None) -> None:
    """Refuse what the parser must not see: unprintable characters, and YAML whose aliases expand without bound."""
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if not is_printable(argument):
            raise PbbError(f"The argument {shown(argument)} holds a character that cannot be written: leave it out.")
        name, equals, value = argument.partition("=")
        value = value if equals else following
        if re.search(r"&\w.*\*\w", value, re.DOTALL):
            _checked_yaml(value, f"The argument {name}")
        part = _part(_type_of(settings, name.removeprefix("--"))) if settings else None
        if part and Path(value).is_file():
            read_config(value)


def _parser(
    commands: Commands, positional: Sequence[str], defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the fields' docstrings are the help
    parser = ArgumentParser(
        prog="pbb-probe",
        description="Where does a language model evaluate a program it has only read?",
        formatter_class=_InWords,  # the commands take it over
        exit_on_error=False,
    )
    choices = parser.add_subcommands(required=True, dest="command")
    for name, (settings, command) in commands.items():
        sub = ArgumentParser(description=command.__doc__, exit_on_error=False)
        sub.add_argument("--config", action=_CheckedFile, help="YAML file with any of the fields below.")
        sub.add_class_arguments(settings, as_group=False, as_positional=name in positional)
        sub.set_defaults(dict((defaults or {}).get(name, {})))
        choices.add_subcommand(name, sub, help=str(command.__doc__).split(".")[0])
    return parser


class _InWords(DefaultHelpFormatter):
    """Help in which types are described in words."""

    def _get_type_str(self, action: Action) -> str | None:
        kind = getattr(action, "_typehint", None)
        return described(kind) if kind is not None else super()._get_type_str(action)


class _CheckedFile(ActionConfigFile):
    """A configuration file that is checked before its fields are read."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        self.apply_config(parser, cfg, self.dest, read_config(values))


def read_config(path: str) -> str:
    """The text of a configuration file: a YAML mapping in which no field is repeated.

    Raises:
        PbbError: it cannot be read, or is not such a mapping.
    """
    what = f"The configuration file {shown(path)}"
    try:
        file = Path(path).expanduser()
        if not path or not file.is_file():
            raise PbbError(f"{what} cannot be read: there is no such file.")
        if (size := file.stat().st_size) > LARGEST_FILE:
            raise PbbError(f"{what} has {size} bytes, where one has at most {LARGEST_FILE}: give another.")
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PbbError(f"{what} is not text in UTF-8: save it as that.") from error
    except (OSError, RuntimeError) as error:
        raise PbbError(f"{what} cannot be read ({getattr(error, 'strerror', error)}): give another.") from error
    root = _checked_yaml(content, what)
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise PbbError(f"{what} holds no fields: write `field: value`, one a line.")
    if "config" in [key.value for key, _ in root.value]:
        raise PbbError(f"{what} names another one in the field 'config': give each with a --config of its own.")
    try:  # JSON escapes some characters as a surrogate pair, which YAML reads as two characters
        content = json.dumps(json.loads(content), ensure_ascii=False)
    except ValueError:
        return content
    if not is_printable(content):
        raise PbbError(f"{what} holds a character that cannot be written: leave it out.")
    return content


def _checked_yaml(content: str, what: str) -> yaml.Node | None:
    """The root of a YAML document that, with its aliases written out, is neither too large nor too deep.

    Raises:
        PbbError: it is, or it is not YAML, repeats a field, or has a tag for objects of a programming language.
    """
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        for n, _ in enumerate(_nodes(root, what)):
            if n > MOST_NODES:
                raise PbbError(f"{what} holds more than {MOST_NODES} entries: leave out its aliases.")
    except yaml.YAMLError as error:
        raise PbbError(f"{what} is not YAML ({' '.join(str(error).split())[:200]}): write `field: value`.") from error
    except RecursionError as error:
        raise PbbError(f"{what} is nested too deeply: write its fields one a line.") from error
    return root


def _nodes(node: yaml.Node | None, what: str, depth: int = 0) -> Iterator[yaml.Node]:
    """A node and all nodes below it, repeated for each alias."""
    if node is None:
        return
    if depth > DEEPEST:
        raise PbbError(f"{what} is nested too deeply: write its fields one a line.")
    if node.tag not in TAGS:
        raise PbbError(f"{what} holds the tag {shown(node.tag)}: give plain numbers, texts, lists and mappings.")
    yield node
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _nodes(entry, what, depth + 1)
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        if odd := [key for key, _ in node.value if not isinstance(key, yaml.ScalarNode)]:
            raise PbbError(f"{what} has a {odd[0].id} where a field's name should be: write `field: value`.")
        if twice := [key for key, times in Counter(keys).items() if times > 1]:
            raise PbbError(f"{what} holds the field {shown(twice[0])} twice: keep one.")
        for key, value in node.value:
            yield from _nodes(key, what, depth + 1)
            yield from _nodes(value, what, depth + 1)


def _made(settings: type, values: Any) -> Any:
    """A configuration made from parsed values, inner configurations first."""
    made = {}
    for name, kind in field_types(settings).items():
        value, part = values[name], _part(kind)
        made[name] = _made(part, value) if part and isinstance(value, (Namespace, dict)) else value
    return settings(**made)


def _sentence(message: str, command: str, commands: Commands) -> str:
    """The parser's message about the arguments as one sentence."""
    given = re.search(r"unrecognized arguments: --([\w.]+)|(?:does not accept option|Option) '([^']+)'", message)
    if given and (old := given[1] or given[2]) in RENAMED:
        return f"{old} is called {RENAMED[old]} now: write that."
    help_of = f"see pbb-probe {command + ' ' if command else ''}--help"
    key = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)":\s', message)))
    if unknown := re.search(r"(?:does not accept option|Option) '([^']+)'", message):
        return f"There is no field {'.'.join(filter(None, (key, unknown[1])))!r}: {help_of}."
    value = re.search(r"(?:Got value: |Given value: |Unable to load config ')(.*)", message)
    if command and value and (kind := _type_of(commands[command][0], key)) is not None:
        return f"{key} must be {described(kind)}, not {value[1].rstrip(chr(39))[:80] or repr('')}."
    return f"{' '.join(message.split()).rstrip('.')[:400]}: {help_of}."


def _type_of(settings: type, key: str) -> Any:
    """The type of a field by its dotted name; None if there is no such field."""
    name, _, rest = key.partition(".")
    kind = field_types(settings).get(name)
    if not rest:
        return kind
    part = _part(kind)
    return _type_of(part, rest) if part else None


def _part(kind: Any) -> Any:
    """The type of the configuration that a field holds; None if it holds none."""
    return next((each for each in (kind, *get_args(kind)) if is_configuration(each)), None)
