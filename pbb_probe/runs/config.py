"""The fields of a configuration file, each with what it means: one run of the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import OPTIONAL, get_curriculum
from pbb_probe.hooking.calls import ANSWERED, ROLES
from pbb_probe.hooking.items import is_item
from pbb_probe.hooking.sites import SITES
from pbb_probe.labels import AUTO
from pbb_probe.patching.transfer import CONTROLS
from pbb_probe.probing import controls
from pbb_probe.probing.controls import Control, controls_out_of
from pbb_probe.programs.arithmetic import SHAPES, VALUES
from pbb_probe.programs.corpus import FAMILIES
from pbb_probe.programs.drawing import NEW_SHARE, PROBLEM_SHARE
from pbb_probe.programs.own import Naming
from pbb_probe.programs.program import LINES
from pbb_probe.schema import (
    Count,
    Draws,
    Folds,
    Lines,
    Name,
    Names,
    NamesIfAny,
    PairCount,
    Place,
    PositiveShare,
    Seed,
    Share,
    Strength,
    check_fields,
    listed,
    number,
    refuse_unknown,
    whole,
)

PROBING_CONTROLS: tuple[Control, ...] = (*controls.CONTROLS, "relabelled", "untrained", "base", "embedding")
PATCHED_SITES = tuple(site for site, axes in SITES.items() if axes == ("d_model",))
"""Those that a study patches: its tables have no rows for heads."""
PROBED = {
    "arithmetic": {
        "targets": ("input", "op_1", "state_1", "op_2", "output"),
        "interchange": ("state_1", "output"),
        "lens": ("state_1", "output"),
    },
    "algorithms": {
        "targets": ("problem", "branch_1", "iterations_1", "pass_1", "output"),
        "interchange": ("pass_1",),
        "lens": ("pass_1", "output"),
    },
    "ciphers": {
        "targets": ("cipher", "input_1", "output_1"),
        "interchange": ("output_1",),
        "lens": ("output_1",),
    },
}
"""The variables of a family's programs that are read where a study says `auto`."""
SIZES: dict[str, dict[str, int]] = {
    "arithmetic": {},
    "algorithms": {"corpus.with_io": 500, "corpus.without_io": 150, "corpus.io_only": 60, "calls": 300},
    "ciphers": {"corpus.with_io": 500, "corpus.without_io": 150, "corpus.io_only": 60, "calls": 300},
}
"""Fields by dotted name that `pbb-probe run` takes of a family where none are given: its documents are longer."""
MOST_PROGRAMS = 100_000
"""Of one corpus; there are 700,000 nonsense words to name them by."""
Programs = Annotated[int, whole(0, MOST_PROGRAMS)]


@dataclass(frozen=True)
class CorpusConfig:
    """Which programs are taught."""

    family: Name = "arithmetic"
    """Family of programs: arithmetic, algorithms or ciphers."""
    with_io: Programs = 850
    """Programs with source and input/output examples."""
    without_io: Programs = 150
    """Programs with source only."""
    io_only: Programs = 100
    """Programs with examples only, a control: what is answered of them is no evaluation of code."""
    new_functions: Share | None = NEW_SHARE
    """Share of the functions of without_io programs, at least, that no program with examples computes, of each number
    of steps; programs with decisive calls are preferred. None draws programs as they come."""
    new_problems: Share = PROBLEM_SHARE
    """Share of the problems or ciphers of without_io programs, rounded up, that no program with examples is of."""
    shown_inputs: Annotated[int, whole(1, 1000)] = 7
    """Inputs of each program with examples, of ten in the families here, whose answers are shown; others are held out.
    """
    shapes: Annotated[tuple[Name, ...], listed("shapes", repeated=True)] = ("one_step", "two_steps", "two_steps")
    """Of arithmetic programs, in turn."""
    composed_with_io: Programs = 0
    """Further programs with examples that call one or two of the others."""
    composed_without_io: Programs = 0
    """The same without examples."""
    programs: Place | None = None
    """A .py, .jsonl, .parquet or .arrow file, or a saved folder of datasets, with programs of your own, instead of a
    family."""
    names: Naming = "nonsense"
    """Names of your own programs: nonsense, or kept."""
    comments: bool = True
    """Keep comments, blank lines and docstrings of your own programs."""
    lines: Lines = LINES
    """Lines that a call of your own programs may run."""
    skip_failing: bool = False
    """Leave out those of your own programs that do not run, where otherwise the file is refused."""

    def __post_init__(self) -> None:
        check_fields(self, "corpus.")
        refuse_unknown("family", [self.family], FAMILIES, "corpus.family")
        refuse_unknown("shape", self.shapes, SHAPES, "corpus.shapes")
        total = self.with_io + self.without_io + self.io_only + self.composed_with_io + self.composed_without_io
        if not self.with_io + self.without_io:
            raise PbbError("A corpus needs programs: corpus.with_io and corpus.without_io are both 0.")
        if total > MOST_PROGRAMS:
            raise PbbError(f"The corpus would have {total} programs: ask for at most {MOST_PROGRAMS}.")
        if self.programs is None and self.shown_inputs > len(VALUES):
            raise PbbError(
                f"corpus.shown_inputs must be at most {len(VALUES)}, the inputs of a program, not {self.shown_inputs}."
            )

    def counts(self) -> dict[str, int] | None:
        """The number of programs in each group; None where it is the user's file that says."""
        if self.programs is not None:
            return None
        return {
            "with_io": self.with_io + self.composed_with_io,
            "without_io": self.without_io + self.composed_without_io,
            "io_only": self.io_only,
        }


@dataclass(frozen=True)
class ProbingConfig:
    """What is read off the activations."""

    prompts: Count = 1000
    """Prompts a group. Above the number of its programs, so that some have several, which can be permuted."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: Names = ("resid_post",)
    """TransformerLens sites."""
    roles: Names = ("name", "input", "answer")
    """Places in the prompt: name, input and answer, and output, which lets the answer stand behind the call; item_1,
    item_2, ... are the elements of inputs that are lists or texts."""
    targets: Names = (AUTO,)
    """Facts and trace variables the probes are fitted to; auto: those of the family."""
    folds: Folds = 3
    """Folds of programs, at least 2; each is held out once."""
    C: Strength = 0.1
    """Inverse regularisation strength, above 0."""
    controls: Annotated[tuple[Control, ...], controls_out_of(PROBING_CONTROLS)] = PROBING_CONTROLS
    """What probes are compared with: selectivity (a control task), permutation (within programs), chance, shuffled
    (judged by other prompts' values), relabelled (states under another meaning of the operators), the untrained and the
    base model, embedding (before any layer)."""
    interchange: NamesIfAny = (AUTO,)
    """Variables whose probes' subspaces are put from one run into another: does what is read carry them? auto: those of
    the family."""
    lens: NamesIfAny = (AUTO,)
    """Variables that are looked for at the answer position with the model's own unembedding; auto: those of the family.
    """

    def __post_init__(self) -> None:
        check_fields(self, "probing.")
        refuse_unknown("site", self.sites, SITES, "probing.sites")
        _refuse_roles(self.roles, (*ROLES, ANSWERED), "probing.roles")

    def of_family(self, family: str) -> "ProbingConfig":
        """The settings with the variables of a family's programs in place of `auto`."""
        read = PROBED[family]
        return replace(
            self,
            targets=read["targets"] if self.targets == (AUTO,) else self.targets,
            interchange=read["interchange"] if self.interchange == (AUTO,) else self.interchange,
            lens=read["lens"] if self.lens == (AUTO,) else self.lens,
        )


@dataclass(frozen=True)
class PatchingConfig:
    """What is put from one run into another."""

    pairs: PairCount = 500
    """Pairs a group and swap."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: Names = ("resid_pre", "attn_out", "mlp_out")
    """TransformerLens sites of width d_model; the command `patch` takes those of heads too."""
    roles: Names = ("name", "input", "answer")
    """Places in the prompt: name, input, answer, and item_1, item_2, ... for the elements of lists and texts."""

    def __post_init__(self) -> None:
        check_fields(self, "patching.")
        _refuse_heads(self.sites, "patching.sites")
        _refuse_roles(self.roles, ROLES, "patching.roles")


@dataclass(frozen=True)
class TransferConfig:
    """What the transfer map is drawn from: one program's run put into another's."""

    pairs: PairCount = 500
    """Pairs a group."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: Names = ("resid_pre", "attn_out", "mlp_out")
    """TransformerLens sites of width d_model; the command `patch` takes those of heads too."""
    roles: Names = ("name", "input", "answer")
    """Places in the prompt: name, input, answer, and item_1, item_2, ... for the elements of lists and texts."""
    controls: Annotated[tuple[Control, ...], controls_out_of(CONTROLS)] = CONTROLS
    """Further maps, which should show nothing: the run's own activation, random vectors of the same norm, the mean
    difference of the runs, the untrained model."""

    def __post_init__(self) -> None:
        check_fields(self, "transfer.")
        _refuse_heads(self.sites, "transfer.sites")
        _refuse_roles(self.roles, ROLES, "transfer.roles")


@dataclass(frozen=True)
class StudyConfig:
    """The settings of one run of the study; the fields are also those of `pbb-probe run`.

    Raises:
        PbbError: a field with a value it cannot have, or a corpus that lacks one of the two groups.

    Example:
        >>> import pbb_probe as pbb
        >>> config = pbb.StudyConfig(out="runs/mine", train=pbb.TrainConfig(exposures=20))
        >>> config.base, config.curriculum, config.train.exposures
        ('nano', 'proactive', 20.0)
    """

    base: Place = "nano"
    """Base model: nano, a Hugging Face model directory, or a hub id."""
    seed: Seed = 0
    """Of everything random: programs, documents, their order, and what is sampled."""
    out: Place = "runs/nano"
    """Run directory."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """Which programs are taught."""
    curriculum: Name = "proactive"
    """Which documents are read in which order."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How each stage is trained."""
    calls: Count = 1000
    """Calls a group and mode in the behaviour table."""
    probing: ProbingConfig = field(default_factory=ProbingConfig)
    """What is read."""
    patching: PatchingConfig = field(default_factory=PatchingConfig)
    """What is patched."""
    transfer: TransferConfig = field(default_factory=TransferConfig)
    """What the transfer map is drawn from."""
    draws: Draws = 10_000
    """Bootstrap resamples and permutations."""
    threshold: PositiveShare = 0.5
    """Recovery, or share of pairs above that with random vectors, from which on a place carries a variable."""
    margin: PositiveShare = 0.2
    """Share of what the strongest control gets wrong and a probe or lens gets right, from which on it reads a variable.
    """
    equivalence: Annotated[float, number(10, above=0)] = 0.1
    """Differences of recovery, accuracy and shares within it count as none, if that can be told."""

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "probing", self.probing.of_family(self.corpus.family))
        if not self.corpus.with_io or not self.corpus.without_io:
            raise PbbError("The study compares with_io and without_io programs: both counts must be above 0.")
        check_stages(self.curriculum, self.corpus, self.train)
        unseen = self.probing.unseen_inputs or self.patching.unseen_inputs or self.transfer.unseen_inputs
        if (counts := self.corpus.counts()) is None:
            return  # how many programs and inputs there are is known once the user's file is read
        if unseen and self.corpus.shown_inputs == len(VALUES):
            raise PbbError(
                f"corpus.shown_inputs must be below {len(VALUES)}, the inputs of a program: unseen_inputs asks for "
                "others than those shown."
            )
        fewest = min(*filter(None, counts.values()), self.probing.prompts)
        if self.probing.folds > fewest:
            raise PbbError(
                f"probing.folds must be at most {fewest}, the programs that the smaller group is probed on, not "
                f"{self.probing.folds}."
            )


def _refuse_roles(roles: Sequence[str], known: Sequence[str], field: str) -> None:
    refuse_unknown("role", [role for role in roles if not is_item(role)], known, field)


def _refuse_heads(sites: Sequence[str], at: str) -> None:
    """Refuse sites that a study cannot patch."""
    refuse_unknown("site", sites, SITES, at)
    if split := [site for site in sites if site not in PATCHED_SITES]:
        raise PbbError(
            f"{at} names {split[0]!r}, which is split into heads, and a study patches {', '.join(PATCHED_SITES)}: "
            "choose from these, or patch heads with the command patch."
        )


def read_config(values: Mapping[str, Any]) -> StudyConfig:
    """The settings of a study from what `dataclasses.asdict` made of them.

    Raises:
        PbbError: settings of another version, or ones that no study can have.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(StudyConfig).validate_python(dict(values))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise PbbError(
            f"{place} is no setting of a study ({fault['msg']}): run the study again, which writes its settings anew."
        ) from error


def check_stages(curriculum: str, corpus: CorpusConfig, train: TrainConfig) -> None:
    """Refuse stages that could not be trained with these programs and settings.

    Raises:
        PbbError: an unknown curriculum, a group that it reads without programs, or answers of a step of reinforcement
            learning that are not drawn to whole prompts.
    """
    stages, counts = get_curriculum(curriculum), corpus.counts()
    for stage in stages:
        for group in sorted({portion.group for phase in stage.phases for portion in phase}):
            if counts is not None and group not in OPTIONAL and not counts[group]:
                raise PbbError(f"The curriculum {curriculum} reads {group} programs: give a corpus.{group} above 0.")
        if stage.method == "grpo" and train.batch_size % train.generations:
            raise PbbError(
                f"train.batch_size ({train.batch_size}) must be a multiple of generations ({train.generations}) where "
                f"the curriculum is {curriculum}: answers are drawn to whole prompts."
            )
