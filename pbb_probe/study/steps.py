"""What a study measures in the finetuned model: what is read, what patching restores, what each place carries.

Each function draws its prompts from the corpus, opens the model, and writes labelled arrays into a folder.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.items import is_item, with_items
from pbb_probe.labels import AUTO, cluster_label, label
from pbb_probe.models.bases import available_device
from pbb_probe.programs.corpus import GROUPS, Corpus, Group
from pbb_probe.store.disk import write_array

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts
    from pbb_probe.patching.pairs import Pairs
    from pbb_probe.runs.config import PatchingConfig, ProbingConfig, TransferConfig
    from pbb_probe.runs.opened import OpenedRun

TEXTS = ["prompt", "completion", "source"]
"""Labels of a call that are texts and no facts."""


def probe(config: "ProbingConfig", corpus: Corpus, final: str, base: str, seed: int, out: Path) -> None:
    """Probes of every target beside their controls, across groups, and the cosines of their directions."""
    from pbb_probe.hooking.answering import with_answered
    from pbb_probe.hooking.calls import make_prompts
    from pbb_probe.hooking.capture import capture
    from pbb_probe.hooking.load import load_model, untrained_model
    from pbb_probe.probing.controls import embeddings, relabelled_targets
    from pbb_probe.probing.groups import direction_cosines, probe_groups
    from pbb_probe.probing.linear import fit_probes

    model = load_model(final, device=available_device())
    answered = "output" in config.roles
    prompts = make_prompts(corpus, model, n=config.prompts, seed=seed, unseen=config.unseen_inputs, answered=answered)
    labels, targets = prompts.labels, list(config.targets)
    check_targets(targets, labels)
    if any(map(is_item, config.roles)):
        prompts = with_items(model, prompts)
    prompts = with_answered(model, prompts)
    acts = capture(model, prompts, config.sites, roles=config.roles)
    write_array(acts, out / "activations.nc")
    operands = list(labels.filter(regex=r"^(op|constant)_\d+$"))
    unlike = labels["program"].where(labels[operands].isna().all(axis=1), "")  # programs without operands
    needs: dict[str, Callable[[], Any]] = {
        "selectivity": labels.assign(program=unlike).groupby([*operands, "program", "input"], dropna=False).ngroup,
        "relabelled": lambda: relabelled_targets(labels, targets, seed),
        "untrained": lambda: capture(untrained_model(model, seed), prompts, config.sites, roles=config.roles),
        "base": lambda: capture(load_model(base, device=available_device()), prompts, config.sites, roles=config.roles),
        "embedding": lambda: embeddings(model, prompts, config.roles),
    }
    settings: dict[str, Any] = {"C": config.C, "seed": seed}
    fitted: dict[str, Any] = {"train": labels["group"].to_numpy() == "with_io", "folds": config.folds, **settings}
    controls: dict[str, Any] = {name: needs[name]() if name in needs else None for name in config.controls}
    probes = fit_probes(acts, targets, controls=controls, **fitted)
    write_array(probes, out / "probes.nc")
    if cluster_label(acts, AUTO) == "function":  # what was read when folds parted programs of one function
        write_array(fit_probes(acts, targets, clusters="program", **fitted), out / "probes_by_program.nc")
    write_array(probe_groups(acts, targets, folds=config.folds, **settings), out / "groups.nc")
    write_array(direction_cosines(acts, targets, **settings), out / "cosines.nc")
    _look(config, model, prompts, probes, seed, out)


def _look(
    config: "ProbingConfig",
    model: "TransformerBridge",
    prompts: "Prompts",
    probes: "xr.Dataset",
    seed: int,
    out: Path,
) -> None:
    """The lens on each variable and on values of other prompts, and what becomes of those that were probed too."""
    import xarray as xr

    from pbb_probe.probing.brewing import brewing
    from pbb_probe.probing.lens import DECODINGS, lens

    if not config.lens:
        return
    variables = prompts.labels[list(config.lens)]
    try:
        looks = [
            lens(model, prompts, variables, decode=decode, controls=["shuffled"], seed=seed) for decode in DECODINGS
        ]
    except PbbError as reason:  # values of several tokens, say: the rest of the study stands without
        print(f"No lens. {reason}", file=sys.stderr)
        return
    write_array(xr.concat(looks, "decode").assign_coords(decode=list(DECODINGS)), out / "lens.nc")
    if "resid_post" not in probes["site"] or "answer" not in probes["role"] or "shuffled" not in config.controls:
        return
    stripped = looks[DECODINGS.index("stripped")].sel(role="answer")
    place = {"site": "resid_post", "role": "answer"}
    names = [name for name in config.lens if name in config.targets]
    brewed = [
        brewing(
            probes["correct"].sel({"target": name, **place}, drop=True),
            stripped["correct"].sel(variable=name, drop=True),
            "answered",
            stripped["candidates"],
        )
        for name in names
    ]
    if brewed:
        write_array(xr.concat(brewed, "variable").assign_coords(variable=names), out / "brewing.nc")


def patch(config: "PatchingConfig", corpus: Corpus, final: str, seed: int, out: Path) -> None:
    """Recovery with the input and with the program swapped, in each group that the corpus has."""
    from pbb_probe.hooking.load import load_model
    from pbb_probe.patching.metrics import answer_difference
    from pbb_probe.patching.pairs import SWAPS, make_pairs
    from pbb_probe.patching.sweep import patch_sweep

    model = load_model(final, device=available_device())
    for swap in SWAPS:
        for group in groups_there(corpus):
            pairs = make_pairs(corpus, model, swap, group, config.pairs, seed, config.unseen_inputs)
            pairs = _with_items(model, pairs, config.roles)
            effects = patch_sweep(
                model,
                pairs.with_answered(model),
                metric=answer_difference(*pairs.answer_ids(model)),
                sites=config.sites,
                positions=_there(pairs, config.roles),
            )
            write_array(effects.reindex(role=list(config.roles)), out / f"{swap}_{group}.nc")


def transfer(config: "TransferConfig", corpus: Corpus, final: str, seed: int, out: Path) -> None:
    """The transfer map of each group with its controls."""
    from pbb_probe.hooking.load import load_model
    from pbb_probe.patching.transfer import transfer_map

    model = load_model(final, device=available_device())
    for group, pairs in _transfer_pairs(config, corpus, model, seed, config.roles).items():
        carried = transfer_map(
            model,
            pairs,
            sites=config.sites,
            roles=_there(pairs, config.roles),
            library=[entry.program for entry in corpus.entries],
            controls=config.controls,
            seed=seed,
        )
        write_array(carried.reindex(role=list(config.roles)), out / f"{group}.nc")


def interchange(
    probing: "ProbingConfig",
    config: "TransferConfig",
    run: "OpenedRun",
    final: str,
    seed: int,
    out: Path,
) -> None:
    """Transfer maps of nothing but what a probe reads: the subspace of each variable, at the sites that were probed.

    The probes are fitted on the with_io prompts of the run's step `probing`.
    """

    from pbb_probe.hooking.load import load_model
    from pbb_probe.patching.sweep import SweepSettings
    from pbb_probe.patching.transfer import transfer_map
    from pbb_probe.probing.linear import fit_probes

    acts, corpus = run.array("probing/activations"), run.corpus
    acts = acts.isel(prompt=(label(acts, "group") == "with_io").to_numpy())
    whole = [str(site) for site, array in acts.data_vars.items() if array.dims[3:] == ("d_model",)]
    # pairs have no answers in them, and may lack elements
    roles = [role for role in acts["role"].values.tolist() if role != "output" and not is_item(role)]
    if not (whole and roles and probing.interchange):
        print(
            "No interchange: no site of width d_model, place before the answer or variable was probed.", file=sys.stderr
        )
        return
    acts = acts[whole].sel(role=roles)
    subspaces = {}
    for variable in probing.interchange:
        try:
            probes = fit_probes(acts, [variable], C=probing.C, folds=1, keep=True)
            subspaces[variable] = probes.subspaces()
        except PbbError as reason:  # more values than the model is wide, say
            print(f"No interchange of {variable}. {reason}", file=sys.stderr)
    model = load_model(final, device=available_device())
    for group, pairs in _transfer_pairs(config, corpus, model, seed).items():
        for variable, bases in subspaces.items():
            (out / variable).mkdir(exist_ok=True)
            carried = transfer_map(
                model,
                pairs,
                sites=whole,
                roles=roles,
                library=[entry.program for entry in corpus.entries],
                subspaces=bases,
                settings=SweepSettings(whole_spans=False),  # the probes read last tokens
                controls=("random",),
                seed=seed,
            )
            write_array(carried, out / variable / f"{group}.nc")


def _with_items(model: "TransformerBridge", pairs: "Pairs", roles: Sequence[str]) -> "Pairs":
    """The pairs with the roles of elements, if any of them are asked for."""
    return pairs.with_items(model) if any(map(is_item, roles)) else pairs


def _there(pairs: "Pairs", roles: Sequence[str]) -> list[str]:
    """Those of the roles that any pair has; of elements that none has nothing can be measured."""
    return [role for role in roles if role in pairs.clean.roles or not is_item(role)]


def groups_there(corpus: Corpus) -> list[Group]:
    """The groups of which the corpus has programs: `io_only` may be left out."""
    return [group for group in GROUPS if corpus.of(group)]


def check_targets(targets: Sequence[str], labels: "pd.DataFrame") -> None:
    """Refuse variables that the calls do not have.

    Raises:
        PbbError: an unknown one.
    """
    known = labels.columns.drop(TEXTS, errors="ignore")
    if unknown := set(targets) - set(known):
        raise PbbError(f"Unknown probe target {min(unknown)!r}: these programs have {', '.join(known)}.")


def check_base(base: str, sites: Iterable[str]) -> None:
    """Refuse a base model that cannot be opened, or that lacks one of these sites in one of its layers.

    Raises:
        PbbError: says which, and why.
    """
    from pbb_probe.hooking.load import load_model
    from pbb_probe.hooking.sites import check_sites

    model = load_model(base, device=available_device())
    check_sites(model, sorted(sites), range(model.cfg.n_layers))


def _transfer_pairs(
    config: "TransferConfig", corpus: Corpus, model: "TransformerBridge", seed: int, roles: Sequence[str] = ()
) -> "dict[str, Pairs]":
    """The pairs of each group, with these roles; one without pairs that tell hypotheses apart is left out."""
    from pbb_probe.patching.transfer_pairs import make_transfer_pairs

    pairs: dict[str, Pairs] = {}
    for group in groups_there(corpus):
        try:
            found = make_transfer_pairs(corpus, model, group, config.pairs, seed, config.unseen_inputs)
            pairs[group] = _with_items(model, found, roles)
        except PbbError as reason:  # programs of too many steps, say
            print(f"No transfer map of {group}. {reason}", file=sys.stderr)
    return pairs
