"""The fields of a configuration file, each with what it means: one run of the study."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import get_curriculum
from pbb_probe.patching.transfer import CONTROLS, Control

ProbingControl = Literal[
    "selectivity", "permutation", "chance", "shuffled", "relabelled", "untrained", "base", "embedding"
]
PROBING_CONTROLS: tuple[ProbingControl, ...] = get_args(ProbingControl)


@dataclass(frozen=True)
class CorpusConfig:
    """Which programs are taught."""

    family: str = "arithmetic"
    """Family of programs."""
    with_io: int = 850
    """Programs with source and input/output examples."""
    without_io: int = 150
    """Programs with source only."""
    shown_inputs: int = 7
    """Inputs of each with_io program whose answers are shown; the rest are held out."""
    shapes: tuple[str, ...] = ("one_step", "two_steps", "two_steps")
    """Of arithmetic programs, in turn."""
    composed_with_io: int = 0
    """Further programs with examples that call one or two of the others."""
    composed_without_io: int = 0
    """The same without examples."""
    programs: str | None = None
    """A .jsonl or .py file with programs of your own, instead of a family."""


@dataclass(frozen=True)
class ProbingConfig:
    """What is read off the activations."""

    prompts: int = 1000
    """Prompts a group. Above the number of its programs, so that some have several, which can be permuted."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: tuple[str, ...] = ("resid_post",)
    """TransformerLens sites."""
    roles: tuple[str, ...] = ("name", "input", "answer")
    """Places in the prompt."""
    targets: tuple[str, ...] = ("input", "op_1", "state_1", "op_2", "output")
    """Facts and trace variables the probes are fitted to."""
    folds: int = 3
    """Folds of programs; each is held out once."""
    C: float = 0.1
    """Inverse regularisation strength."""
    controls: tuple[ProbingControl, ...] = PROBING_CONTROLS
    """What probes are compared with: selectivity (a control task), permutation (within programs), chance, shuffled
    (judged by other prompts' values), relabelled (states under another meaning of the operators), the untrained and the
    base model, embedding (before any layer)."""
    interchange: tuple[str, ...] = ("state_1", "output")
    """Variables whose probes' subspaces are put from one run into another: does what is read carry them?"""
    lens: tuple[str, ...] = ("state_1", "output")
    """Variables, of one token each, that are looked for at the answer position with the model's own unembedding."""


@dataclass(frozen=True)
class PatchingConfig:
    """What is put from one run into another."""

    pairs: int = 500
    """Pairs a group and swap."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: tuple[str, ...] = ("resid_pre", "attn_out", "mlp_out")
    """TransformerLens sites."""
    roles: tuple[str, ...] = ("name", "input", "answer")
    """Places in the prompt."""


@dataclass(frozen=True)
class TransferConfig:
    """What the transfer map is drawn from: one program's run put into another's."""

    pairs: int = 500
    """Pairs a group."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: tuple[str, ...] = ("resid_pre", "attn_out", "mlp_out")
    """TransformerLens sites."""
    roles: tuple[str, ...] = ("name", "input", "answer")
    """Places in the prompt."""
    controls: tuple[Control, ...] = CONTROLS
    """Further maps, which should show nothing: the run's own activation, random vectors of the same norm, the mean
    difference of the runs, the untrained model."""


@dataclass(frozen=True)
class StudyConfig:
    """One run of the study."""

    base: str = "nano"
    """Base model: nano, a Hugging Face model directory, or a hub id."""
    seed: int = 0
    """Of everything random: programs, documents, their order, and what is sampled."""
    out: str = "runs/nano"
    """Run directory."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """Which programs are taught."""
    curriculum: str = "proactive"
    """Which documents are read in which order."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How each stage is trained."""
    calls: int = 1000
    """Calls a group and mode in the behaviour table."""
    probing: ProbingConfig = field(default_factory=ProbingConfig)
    """What is read."""
    patching: PatchingConfig = field(default_factory=PatchingConfig)
    """What is patched."""
    transfer: TransferConfig = field(default_factory=TransferConfig)
    """What the transfer map is drawn from."""
    draws: int = 10_000
    """Bootstrap resamples and permutations."""
    threshold: float = 0.5
    """Recovery, or share of pairs above that with random vectors, from which on a place carries a variable."""
    margin: float = 0.2
    """Share of what the strongest control gets wrong and a probe or lens gets right, from which on it reads a variable.
    """
    equivalence: float = 0.1
    """Differences of recovery, accuracy and shares within it count as none, if that can be told."""

    def __post_init__(self) -> None:
        get_curriculum(self.curriculum)
        if not self.corpus.with_io or not self.corpus.without_io:
            raise PbbError("The study compares with_io and without_io programs: both counts must be above 0.")
        if min(self.calls, self.probing.prompts, self.patching.pairs, self.transfer.pairs, self.draws) < 1:
            raise PbbError("calls, prompts, pairs and draws must be at least 1.")
        if min(self.threshold, self.margin, self.equivalence) <= 0 or max(self.threshold, self.margin) > 1:
            raise PbbError("threshold and margin are shares above 0 and at most 1, and equivalence is above 0.")
        if self.seed < 0:
            raise PbbError(f"The seed must be 0 or more, not {self.seed}.")
