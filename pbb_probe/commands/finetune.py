"""The command `finetune`: a base model taught a corpus, on one process or many."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import get_curriculum
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.runs.config import CorpusConfig, check_stages
from pbb_probe.schema import Name, Place, Seed, check_fields
from pbb_probe.store.disk import digest
from pbb_probe.store.writable import WritableRun


@dataclass(frozen=True)
class FinetuneConfig:
    """A base model taught a corpus by a curriculum."""

    base: Place = "nano"
    """Base model: nano, a Hugging Face model directory, or a hub id."""
    curriculum: Name = "proactive"
    """Which documents are read in which order."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """Which programs are taught."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How each stage is trained."""
    seed: Seed = 0
    """Of everything random: programs, documents and their order."""
    out: Place = "runs/finetuned"
    """Directory for the corpus and a model a stage."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_stages(self.curriculum, self.corpus, self.train)


def finetune(config: FinetuneConfig) -> None:
    """Teach a base model programs, stage after stage. Continues where it stopped; works under `accelerate launch`."""
    from accelerate import PartialState

    from pbb_probe.finetuning.prepare import check_training
    from pbb_probe.finetuning.train import finetune

    corpus = make_corpus(**asdict(config.corpus), seed=config.seed)
    if not (Path(config.out).expanduser() / "corpus").exists():
        check_training(config.base, corpus, get_curriculum(config.curriculum), config.train)
    state = PartialState()
    if state.is_main_process:
        _keep(corpus, WritableRun(config.out))
    state.wait_for_everyone()
    model = finetune(config.base, corpus, config.curriculum, out=config.out, seed=config.seed, config=config.train)
    if state.is_main_process:
        print(f"model: {model}")


def _keep(corpus: Corpus, run: WritableRun) -> None:
    """Write the corpus beside the models.

    Raises:
        PbbError: there is another corpus, with which models there were trained.
    """
    inputs = {"corpus": corpus.digest}
    if run.key("corpus") not in (None, digest(inputs)):
        raise PbbError(f"{run.path} holds another corpus: give another directory or remove it.")
    run.step("corpus", inputs, corpus.save)
