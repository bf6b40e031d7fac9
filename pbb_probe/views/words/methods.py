"""How a study measures, in a few sentences each, with the numbers of the run."""

from collections.abc import Sequence

from pbb_probe.evidence.verdict import ENOUGH
from pbb_probe.programs.program import GROUPS
from pbb_probe.runs.config import StudyConfig
from pbb_probe.views.words.phrases import and_words


def methods(config: StudyConfig) -> list[tuple[str, str]]:
    """What is measured and how; `config` is that of the run."""
    corpus, probing, patching, transfer = config.corpus, config.probing, config.patching, config.transfer
    unseen = {True: "inputs whose answers were never shown", False: "any inputs"}
    numbers = {group: getattr(corpus, group, 0) for group in GROUPS}
    groups = [f"{n} {group}" for group, n in numbers.items() if n]
    programs = f"programs of the file {corpus.programs}" if corpus.programs else f"{corpus.family} programs"
    return [
        (
            "Programs and training",
            f"{and_words(groups)} {programs}, drawn with seed {config.seed}; of each program with examples the answers "
            f"of {corpus.shown_inputs} inputs are shown. "
            f"{config.base} is taught them by the {config.curriculum} curriculum.",
        ),
        (
            "Behaviour",
            f"Greedy answers to {config.calls} calls a group and mode. Chance is the share of the most common answer. "
            "A call is decisive if no simpler program gives its answer.",
        ),
        (
            "Probes",
            f"Linear probes (inverse regularisation {probing.C:g}) of {_list(probing.targets)} at "
            f"{_list(probing.sites)} and the places {_list(probing.roles)}, on up to {probing.prompts} "
            f"prompts a group of {unseen[probing.unseen_inputs]}. Fitted on with_io programs in {probing.folds} "
            "folds of programs: no program is on both sides. A variable counts as read from the first block after "
            f"which probe or lens get right {config.margin:.0%} of what their strongest control gets wrong.",
        ),
        (
            "Activation patching",
            f"Up to {patching.pairs} pairs a group and swap, of {unseen[patching.unseen_inputs]}, at "
            f"{_list(patching.sites)} and the places {_list(patching.roles)}. Recovery is (patched - corrupted) "
            "/ (clean - corrupted), of the difference of the two answers' log-probabilities.",
        ),
        (
            "Transfer map",
            f"Up to {transfer.pairs} pairs a group, of two programs on two inputs, of "
            f"{unseen[transfer.unseen_inputs]}, at {_list(transfer.sites)} and the places "
            f"{_list(transfer.roles)}; controls: {_list(transfer.controls)}. A place carries a variable where "
            f"the share of pairs is at least {config.threshold:.0%} above that with random vectors.",
        ),
        (
            "Subspaces and lens",
            f"The subspaces that probes of {_list(probing.interchange)} read are copied from donor to base as "
            f"in the transfer map. The lens looks for {_list(probing.lens)} at the answer position with the model's "
            "own final norm and unembedding.",
        ),
        (
            "Statistics",
            f"Intervals are 95 %, from {config.draws} bootstrap resamples of whole programs; p values are from "
            f"{config.draws} permutations of programs and adjusted over all places of one measure and swap. "
            f"Nothing is said of groups of fewer than {ENOUGH} programs.",
        ),
    ]


def _list(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"
