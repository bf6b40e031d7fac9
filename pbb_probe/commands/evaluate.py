"""The command `evaluate`: what a model answers when programs are called."""

from dataclasses import dataclass
from typing import Annotated

from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.templates import CALLING, MODES, Mode
from pbb_probe.schema import BatchSize, Count, Place, Seed, check_fields, listed
from pbb_probe.store.disk import write_array
from pbb_probe.store.writable import WritableRun


@dataclass(frozen=True)
class EvaluateConfig:
    """What a model answers when the programs of a corpus are called."""

    model: Place
    """nano, a Hugging Face model directory, or a hub id."""
    corpus: Place
    """Folder of a corpus, such as the one that `finetune` or `run` wrote."""
    modes: Annotated[tuple[Mode, ...], listed(f"modes out of {', '.join(MODES)}")] = CALLING
    """direct answers at once, trace in worked steps, recite writes the program's code."""
    calls: Count | None = 1000
    """Calls a group and mode; null for all."""
    in_context: bool = False
    """Put each program's code before the call."""
    seed: Seed = 0
    """Of the calls and their surface templates."""
    batch_size: BatchSize = 512
    """Calls decoded together."""
    out: Place = "behaviour"
    """Directory for behaviour.csv (accuracies with intervals) and behaviour.nc (every call)."""

    def __post_init__(self) -> None:
        check_fields(self)


def evaluate(config: EvaluateConfig) -> None:
    """Call programs and read the answers; prints accuracies with their intervals."""
    from pbb_probe.evidence.behaviour import behaviour_table
    from pbb_probe.finetuning.behaviour import evaluate

    run = WritableRun(config.out)
    run.refuse_owned()
    behaviour = evaluate(
        config.model,
        Corpus.load(config.corpus),
        config.modes,
        config.calls,
        config.in_context,
        config.seed,
        config.batch_size,
    )
    table = behaviour_table(behaviour, seed=config.seed)
    table.insert(0, "model", config.model)
    with run.writing():
        write_array(behaviour, run.path / "behaviour.nc")
        table.to_csv(run.path / "behaviour.csv", index=False)
    print(table.drop(columns="model").to_string(index=False, float_format="%.3f"))
