"""The command line: `pbb-probe run` does the whole study. A user's mistake is one sentence and exit code 2."""

import errno
import shutil
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, set_parsing_settings

from pbb_probe.errors import PbbError
from pbb_probe.study import Study, StudyConfig


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and return the exit code."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the fields' docstrings are the help
    parser = ArgumentParser(
        prog="pbb-probe", description="Where does a language model evaluate a program it has only read?"
    )
    commands = parser.add_subcommands(required=True)
    run = ArgumentParser(
        description="Finetune, open, probe, patch, compare and report. Finished steps are not done again."
    )
    run.add_argument("--config", action="config", help="YAML file with any of the fields below.")
    run.add_class_arguments(StudyConfig, as_group=False)
    commands.add_subcommand("run", run, help="the whole study")
    out = Path(".")
    try:
        chosen = parser.instantiate_classes(parser.parse_args(arguments))["run"]
        out = Path(chosen.out)
        from transformers.utils import logging  # after parsing: it takes a second

        logging.disable_progress_bar()  # a bar for each file loaded; training and evaluation show their own
        finished = Study(StudyConfig(**{k: v for k, v in vars(chosen).items() if k != "config"})).run()
        print(f"report: {finished.path / 'report.html'}")
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
