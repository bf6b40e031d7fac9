"""The instrument run where the truth is known: planted designs drawn at random, and comparisons with nothing to find.

A planted design says whether the blocks that the instrument names are the planted ones. A null comparison says how
often it reports a difference between two groups of programs that were split at random, and finds what is not there.
"""

import random
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from pbb_probe.calibration.circuits import DECOYS, Decoy, Where
from pbb_probe.calibration.planted import PLANTED, check_design, planted_model
from pbb_probe.errors import PbbError
from pbb_probe.evidence.differences import flat_places, transfer_differences
from pbb_probe.evidence.onsets import how_evaluated, located_lens, located_reading, located_use, side_by_side
from pbb_probe.labels import join, label, measurement, storable
from pbb_probe.programs.corpus import Corpus
from pbb_probe.schema import Count, Draws, Folds, PairCount, PositiveShare, Strength, check_fields
from pbb_probe.statistics.groups import compare_groups

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts

D_MODEL = 320
NOISE = 0.3
"""Of the planted models in null comparisons: they get about three calls of four right."""
SEEDS_APART = 10_000
"""Seeds of the designs drawn from one seed, and those drawn from the next, do not meet."""
BLOCKS_DRAWN = 100
"""Before other decoys are drawn: some exclude each other."""
NullData = Literal["programs", "untrained", "labels"]
NULL_DATA: tuple[NullData, ...] = get_args(NullData)


@dataclass(frozen=True)
class Design:
    """Arguments of `planted_model`."""

    n_layers: int
    retrieve: int
    states: tuple[int, ...]
    output: int
    where: Where
    decoys: tuple[Decoy, ...]
    arrive: int
    seed: int


@dataclass(frozen=True)
class Instrument:
    """How the instrument is set."""

    pairs: PairCount = 40
    """Pairs a group of the transfer map."""
    prompts: Count = 400
    """Prompts a group of probes and lens."""
    C: Strength = 0.1
    """Inverse regularisation strength of the probes."""
    folds: Folds = 3
    """Folds of programs, at least 2."""
    threshold: PositiveShare = 0.5
    """Share of pairs, above that with random vectors, from which on a place carries a variable."""
    margin: PositiveShare = 0.2
    """Gain of a reading over its strongest control from which on a variable is read."""
    draws: Draws = 1000
    """Bootstrap resamples, and permutations."""

    def __post_init__(self) -> None:
        check_fields(self, "instrument.")


def draw_designs(n: int, seed: int = 0) -> list[Design]:
    """Designs of 4 to 10 blocks, one or two steps and up to three decoys, all drawn at random."""
    rng = random.Random(f"designs {seed}")
    designs: list[Design] = []
    while len(designs) < n:
        decoys = tuple(rng.sample(DECOYS, rng.choice((0, 1, 1, 2, 3))))
        for _ in range(BLOCKS_DRAWN):
            n_layers = rng.randint(4, 10)
            retrieve, *states, output = sorted(rng.sample(range(n_layers), rng.choice((2, 3, 3, 3))))
            where: Where = rng.choice(get_args(Where))
            arrive = rng.randint(0, (states or [output])[0])
            try:
                check_design(n_layers, retrieve, tuple(states), output, where, decoys, arrive)
            except PbbError:
                continue
            made = (n_layers, retrieve, tuple(states), output, where, decoys, arrive)
            designs.append(Design(*made, seed=SEEDS_APART * seed + len(designs)))
            break
    return designs


def try_design(design: Design, instrument: Instrument) -> "pd.DataFrame":
    """The instrument on one planted model.

    Returns:
        A row a group and variable: the planted `layer` and `evaluation`, the columns of `side_by_side`,
        `found_evaluation`, and `p`, the smallest adjusted p of a difference of the groups in what places carry.
    """
    import numpy as np
    import pandas as pd

    from pbb_probe.hooking.load import load_model
    from pbb_probe.probing.controls import embeddings

    hf_model, tokenizer, corpus, truth = planted_model(**asdict(design), d_model=D_MODEL)
    model = load_model(hf_model, tokenizer)
    settings: dict[str, Any] = {"draws": instrument.draws, "seed": design.seed}
    carried: dict[str, xr.Dataset] = {
        group: _carried(model, corpus, group, instrument, design.seed) for group in PLANTED
    }
    parts = [located_use(found, ["group"], threshold=instrument.threshold, **settings) for found in carried.values()]
    used = pd.concat(parts, ignore_index=True)
    prompts, acts = _activations(model, corpus, instrument, design.seed)
    labels, parts = prompts.labels, []
    for group in PLANTED:  # each by probes of its own, on programs that they have not seen
        rows = np.flatnonzero(labels["group"] == group)
        of_group = labels.iloc[rows].reset_index(drop=True)
        tokens = embeddings(model, prompts.select(rows.tolist()), ["name"])
        probes = _probes(acts.isel(prompt=rows), of_group, instrument, design.seed, {"embedding": tokens})
        parts.append(located_reading(probes, ["group"], margin=instrument.margin, **settings))
    read = pd.concat(parts, ignore_index=True)
    lens = located_lens(_lens(model, prompts, labels, design.seed), ["group"], margin=instrument.margin, **settings)
    kinds = how_evaluated(used, read, ["group"]).rename(columns={"evaluation": "found_evaluation"})
    found = side_by_side(used, read, lens, by=["group"]).merge(kinds)
    differences = transfer_differences(join(list(carried.values()), "pair"), by=(), **settings)
    return truth.merge(found, how="left").assign(p=differences["p_adjusted"].min())


def null_comparisons(data: NullData, splits: int, instrument: Instrument, seed: int) -> "pd.DataFrame":
    """Programs split into two groups at random, `splits` times, and what is located where there is nothing.

    Args:
        data: `programs` are those of a planted model that gets some of them wrong; `untrained` the same model before
            any training; `labels` those of the first, dealt anew among the prompts, for probes and lens.
        splits: comparisons of each measure.
        instrument: its settings.
        seed: of the model and of the splits.

    Returns:
        A row a measure (transfer, probes, lens) and split: `p`, the smallest adjusted p over all places, and
        `p_of_rows`, the same if rows were dealt to the groups and not programs. Where nothing can be read, also a row a
        measure with split -1: `found` of `n` variables were located.
    """
    import numpy as np
    import pandas as pd

    from pbb_probe.hooking.load import load_model, untrained_model

    hf_model, tokenizer, corpus, _ = planted_model(
        where="name", noise=NOISE, n_programs=120, d_model=D_MODEL, seed=seed
    )
    model = load_model(hf_model, tokenizer)
    if data == "untrained":
        model = untrained_model(model, seed)
    prompts, acts = _activations(model, corpus, instrument, seed)
    labels = prompts.labels
    if data == "labels":
        dealt = np.random.default_rng(seed).permutation(len(labels))
        labels = labels.assign(**{name: labels[name].to_numpy()[dealt] for name in _targets(labels)})
    probes, looked = _probes(acts, labels, instrument, seed), _lens(model, prompts, labels, seed)
    right = measurement(looked)["correct"].sel(role="answer", variable=["state_1", "output"])
    measured = {
        "probes": (flat_places(measurement(probes)["correct"].isel(site=0, drop=True)), "program"),
        "lens": (flat_places(right), "program"),
    }
    if data != "labels":
        maps = join([measurement(_carried(model, corpus, group, instrument, seed)) for group in PLANTED], "pair")
        measured["transfer"] = (flat_places(maps.to_array("site"), "pair"), "corrupted_program")
    rng, rows = np.random.default_rng(seed), []
    for split in range(splits):
        for measure, (values, clusters) in measured.items():
            programs = label(values, clusters).tolist()
            names = sorted(set(programs))
            first = set(rng.choice(names, len(names) // 2, replace=False).tolist())
            group = ["first" if name in first else "second" for name in programs]
            found = {
                column: compare_groups(values, group=group, clusters=units, draws=instrument.draws, seed=split)
                for column, units in (("p", programs), ("p_of_rows", range(len(programs))))
            }
            smallest = {column: table["p_adjusted"].min() for column, table in found.items()}
            rows.append({"measure": measure, "split": split, **smallest})
    if data != "programs":
        settings: dict[str, Any] = {"margin": instrument.margin, "draws": instrument.draws, "seed": seed}
        for measure, table in (
            ("probes", located_reading(probes, ["group"], **settings)),
            ("lens", located_lens(looked, ["group"], **settings)),
        ):
            rows.append({"measure": measure, "split": -1, "found": table["layer"].notna().sum(), "n": len(table)})
    return pd.DataFrame(rows).assign(data=data, seed=seed)


def _carried(model: "TransformerBridge", corpus: Corpus, group: str, instrument: Instrument, seed: int) -> "xr.Dataset":
    """The transfer map where `located_use` looks: the stream at name and input, components at the answer position."""
    import xarray as xr

    from pbb_probe.patching.transfer import transfer_map
    from pbb_probe.patching.transfer_pairs import make_transfer_pairs

    pairs = make_transfer_pairs(corpus, model, group, instrument.pairs, seed)  # type: ignore[arg-type]
    maps = [
        transfer_map(model, pairs, sites=sites, roles=roles, controls=["random"], seed=seed)
        for sites, roles in ((["resid_pre"], ["name", "input"]), (["attn_out", "mlp_out"], ["answer"]))
    ]
    return xr.merge(maps, join="outer", compat="override", combine_attrs="override")


def _activations(
    model: "TransformerBridge", corpus: Corpus, instrument: Instrument, seed: int
) -> "tuple[Prompts, xr.Dataset]":
    from pbb_probe.hooking.calls import make_prompts
    from pbb_probe.hooking.capture import capture

    prompts = make_prompts(corpus, model, n=instrument.prompts, seed=seed)
    return prompts, capture(model, prompts, roles=["name", "answer"])


def _targets(labels: "pd.DataFrame") -> list[str]:
    return [name for name in ("op_1", "state_1", "output") if name in labels]


def _probes(
    acts: "xr.Dataset",
    labels: "pd.DataFrame",
    instrument: Instrument,
    seed: int,
    elsewhere: "dict[str, xr.Dataset] | None" = None,
) -> "xr.Dataset":
    """Probes of these values of the targets, beside their controls."""
    from pbb_probe.probing.controls import relabelled_targets
    from pbb_probe.probing.linear import fit_probes

    names = _targets(labels)
    relabelled = {"relabelled": relabelled_targets(labels, names, seed)}
    return fit_probes(
        acts.assign_coords({name: ("prompt", storable(labels[name])) for name in names}),
        names,
        C=instrument.C,
        folds=instrument.folds,
        controls={"chance": None, "shuffled": None, **relabelled, **(elsewhere or {})},
        seed=seed,
    )


def _lens(model: "TransformerBridge", prompts: "Prompts", labels: "pd.DataFrame", seed: int) -> "xr.Dataset":
    """The logit lens on these values of the states and the output, beside its control."""
    from pbb_probe.probing.lens import lens

    values = labels[[name for name in _targets(labels) if name != "op_1"]]
    return lens(model, replace(prompts, labels=labels), values, controls=["shuffled"], seed=seed)
