"""The command `finetune`: a base model taught a corpus, on one process or many."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pbb_probe.config import CorpusConfig
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import get_curriculum
from pbb_probe.programs.corpus import make_corpus


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
