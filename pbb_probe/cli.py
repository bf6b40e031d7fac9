"""The command line: the study, or a part of it alone. A user's mistake is one sentence, exit code 2."""

import errno
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, set_parsing_settings

from pbb_probe.calibrate_command import CalibrateConfig, calibrate
from pbb_probe.errors import PbbError
from pbb_probe.explore_command import ExploreConfig, explore
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import get_curriculum
from pbb_probe.patch_command import PatchConfig, patch
from pbb_probe.probe_command import ProbeConfig, probe
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.templates import MODES
from pbb_probe.store import Run
from pbb_probe.study import CorpusConfig, Study, StudyConfig


@dataclass(frozen=True)
class FinetuneConfig:
    """A base model taught a corpus by a curriculum."""

    base: str = "nano"
    """Base model: nano, a Hugging Face model directory, or a hub id."""
    curriculum: str = "proactive"
    """Which documents are read in which order."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """Which programs are taught."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How each stage is trained."""
    seed: int = 0
    """Of everything random: programs, documents and their order."""
    out: str = "runs/finetuned"
    """Directory for the corpus and a model a stage."""

    def __post_init__(self) -> None:
        get_curriculum(self.curriculum)


@dataclass(frozen=True)
class EvaluateConfig:
    """What a model answers when the programs of a corpus are called."""

    model: str
    """nano, a Hugging Face model directory, or a hub id."""
    corpus: str
    """Folder of a corpus, such as the one that `finetune` or `run` wrote."""
    modes: tuple[str, ...] = MODES
    """direct answers at once, trace in worked steps."""
    calls: int | None = 1000
    """Calls a group and mode; null for all."""
    in_context: bool = False
    """Put each program's code before the call."""
    seed: int = 0
    """Of the calls and their surface templates."""
    batch_size: int = 512
    """Calls decoded together."""
    out: str = "behaviour"
    """Directory for behaviour.csv (accuracies with intervals) and behaviour.nc (every call)."""


def run(config: StudyConfig) -> None:
    """Finetune, open, probe, patch, compare and report. Finished steps are not done again."""
    finished = Study(config).run()
    print(f"report: {finished.path / 'report.html'}")
    print(f"to look around: pbb-probe explore {finished.path}")


def finetune(config: FinetuneConfig) -> None:
    """Teach a base model programs, stage after stage. Goes on where it stopped; `accelerate launch` takes it too."""
    from accelerate import PartialState

    from pbb_probe.finetuning.train import finetune

    corpus = make_corpus(**asdict(config.corpus), seed=config.seed)
    state = PartialState()
    if state.is_main_process:
        corpus.save(Path(config.out) / "corpus")
    state.wait_for_everyone()
    model = finetune(config.base, corpus, config.curriculum, out=config.out, seed=config.seed, config=config.train)
    if state.is_main_process:
        print(f"model: {model}")


def evaluate(config: EvaluateConfig) -> None:
    """Call programs and read the answers; prints accuracies with their intervals."""
    from pbb_probe.comparison.behaviour import accuracy_table
    from pbb_probe.finetuning.behaviour import evaluate

    behaviour = evaluate(
        config.model,
        Corpus.load(config.corpus),
        config.modes,  # type: ignore[arg-type]  # checked where the calls are made
        config.calls,
        config.in_context,
        config.seed,
        config.batch_size,
    )
    out = Run(config.out).path
    behaviour.to_netcdf(out / "behaviour.nc")
    table = accuracy_table({config.model: behaviour}, seed=config.seed)
    table.to_csv(out / "behaviour.csv", index=False)
    print(table.drop(columns="model").to_string(index=False, float_format="%.3f"))


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
