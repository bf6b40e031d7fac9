"""The command line: the study, or a part of it alone. A user's mistake is one sentence, exit code 2."""

import errno
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, set_parsing_settings

from pbb_probe.calibrate_command import CalibrateConfig, calibrate
from pbb_probe.config import StudyConfig
from pbb_probe.errors import PbbError
from pbb_probe.evaluate_command import EvaluateConfig, evaluate
from pbb_probe.explore_command import ExploreConfig, explore
from pbb_probe.finetune_command import FinetuneConfig, finetune
from pbb_probe.patch_command import PatchConfig, patch
from pbb_probe.probe_command import ProbeConfig, probe
from pbb_probe.run_command import run

COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "run": (StudyConfig, run),
    "finetune": (FinetuneConfig, finetune),
    "evaluate": (EvaluateConfig, evaluate),
    "probe": (ProbeConfig, probe),
    "patch": (PatchConfig, patch),
    "calibrate": (CalibrateConfig, calibrate),
    "explore": (ExploreConfig, explore),
}
POSITIONAL = ("explore",)
"""Commands that take what they must be given without a flag."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do what it says, and return the exit code."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the fields' docstrings are the help
    parser = ArgumentParser(
        prog="pbb-probe", description="Where does a language model evaluate a program it has only read?"
    )
    commands = parser.add_subcommands(required=True, dest="command")
    for name, (settings, command) in COMMANDS.items():
        sub = ArgumentParser(description=command.__doc__)
        sub.add_argument("--config", action="config", help="YAML file with any of the fields below.")
        sub.add_class_arguments(settings, as_group=False, as_positional=name in POSITIONAL)
        commands.add_subcommand(name, sub, help=str(command.__doc__).split(".")[0])
    out = Path(".")
    warnings.formatwarning = lambda message, *_, **__: f"pbb-probe: {message}\n"  # a sentence, and no line of code
    try:
        parsed = parser.instantiate_classes(parser.parse_args(arguments))
        fields = {name: value for name, value in vars(parsed[parsed.command]).items() if name != "config"}
        settings, command = COMMANDS[parsed.command]
        if "out" in fields:
            out = Path(fields["out"])
            from transformers.utils import logging  # after parsing: it takes a second

            logging.disable_progress_bar()  # a bar for each file loaded; training and evaluation show their own
        command(settings(**fields))
    except PbbError as error:
        print(f"pbb-probe: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not _cannot_write(error, out):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(
            f"pbb-probe: the run directory cannot be written, its disk is full or read-only ({reason}): "
            "make room or give another --out; finished steps are kept.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("pbb-probe: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _cannot_write(error: Exception, out: Path) -> bool:
    """Is it the disk? Libraries report a full one in ways of their own, so its free space is asked as well."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
        return True
    return out.exists() and shutil.disk_usage(out).free < 1 << 20


if __name__ == "__main__":
    sys.exit(main())
