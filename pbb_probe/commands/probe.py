"""The command `probe`: prompts with labels from a file, probed at every place, as tables and figures."""

import shutil
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.sites import SITES
from pbb_probe.labels import NONE
from pbb_probe.probing.controls import CONTROLS, Control, controls_out_of
from pbb_probe.probing.folds import check_folds
from pbb_probe.probing.readers import Kind
from pbb_probe.schema import (
    BatchSize,
    Draws,
    Folds,
    Gibibytes,
    Layers,
    Name,
    Names,
    Place,
    Seed,
    Strengths,
    check_fields,
    refuse_unknown,
)
from pbb_probe.store.disk import write_array
from pbb_probe.store.writable import WritableRun

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts


@dataclass(frozen=True)
class ProbeConfig:
    """Prompts with labels, and what of them is read where."""

    model: Place
    """nano, a Hugging Face model directory, or a hub id."""
    prompts: Place
    """JSONL file of prompts: text, roles, labels (see `pbb_probe.hooking.files.read_prompts`)."""
    targets: Names | None = None
    """Labels that are read; all but `cluster` and `group` when null."""
    cluster: Name = "program"
    """Label of what belongs together and is never split over folds; without such a label, each prompt."""
    group: Name = "group"
    """Label of groups that are reported apart; none where there is no such label."""
    train: Names | None = None
    """Groups that probes are fitted on; they read the others too. All when null."""
    sites: Names = ("resid_post",)
    """TransformerLens sites; heads are read together."""
    layers: Layers | None = None
    """All when null."""
    roles: Names | None = None
    """Places in the prompt; those of the file, and answer, when null."""
    kinds: dict[Name, Kind] = field(default_factory=dict)
    """Of a target's probe: logistic (when not named), mean_difference, or ridge for numbers."""
    C: Strengths = (0.1,)
    """Inverse regularisation strength, above 0; of several, each probe takes the one that does best on inner folds."""
    folds: Folds = 5
    """Folds of clusters, at least 2; each is held out once."""
    balanced: bool = False
    """Weigh rows so that all classes count alike."""
    controls: Annotated[tuple[Control, ...], controls_out_of(CONTROLS)] = CONTROLS
    """selectivity (labels dealt anew by `types`), permutation (labels dealt anew within clusters), chance."""
    types: Name | None = None
    """Label that the selectivity control deals classes to; the cluster when null."""
    untrained: bool = True
    """A further control: the model as initialised before any training."""
    base: Place | None = None
    """A further control: another model, such as the base of a finetuned one."""
    embedding: bool = True
    """A further control: the embeddings of the roles' tokens, before any layer."""
    save_probes: bool = False
    """Write the probes too, fitted on all prompts of `train` with the first C: probes.safetensors, for Probes.load."""
    on_disk: bool = False
    """Keep activations in shards in out/activations while they are used, for captures larger than memory."""
    special_tokens: bool = True
    """Let the tokenizer add those it begins texts with; not where the texts bring them."""
    batch_size: BatchSize = 256
    """Prompts run together."""
    memory_gib: Gibibytes = 2.0
    """What the activations that are fitted together may take."""
    draws: Draws = 10_000
    """Bootstrap resamples."""
    seed: Seed = 0
    """Of folds, controls and resamples."""
    out: Place = "probing"
    """Directory for probes.nc, accuracy.csv and the figures."""

    def __post_init__(self) -> None:
        check_fields(self)
        refuse_unknown("site", self.sites, SITES, "sites")


def probe(config: ProbeConfig) -> None:
    """Fit linear probes to labels of prompts: what can be read at each place, beside its controls?"""
    from pbb_probe.evidence import tables
    from pbb_probe.hooking.capture import capture
    from pbb_probe.hooking.files import read_prompts
    from pbb_probe.hooking.load import load_model, untrained_model
    from pbb_probe.hooking.sites import check_layers, check_roles, check_sites
    from pbb_probe.models.bases import available_device
    from pbb_probe.probing.controls import embeddings
    from pbb_probe.probing.linear import fit_probes
    from pbb_probe.views import figures
    from pbb_probe.views.images import save_pngs

    device = available_device()
    model = load_model(config.model, device=device)
    prompts = read_prompts(config.prompts, model, config.special_tokens)
    targets, clusters, train = _what_is_read(config, prompts)
    check_sites(model, config.sites, check_layers(model, config.layers))  # before anything is written
    check_roles(prompts, config.roles)
    base = load_model(config.base, device=device) if config.base else None
    if base is not None:
        check_sites(base, config.sites, check_layers(base, config.layers))
    groups = [config.group] if config.group in prompts.labels else []
    roles = list(config.roles or prompts.roles)
    run = WritableRun(config.out)
    out = run.path

    def captured(opened: "TransformerBridge", name: str) -> "xr.Dataset":
        folder = out / ".activations" / name if config.on_disk else None
        return capture(opened, prompts, config.sites, config.layers, roles, config.batch_size, folder)

    with run.writing():
        acts = captured(model, "model")
        controls: dict[str, Any] = dict.fromkeys(config.controls)
        if "selectivity" in controls and config.types is not None:
            controls["selectivity"] = prompts.labels[config.types].tolist()
        if config.untrained:
            controls["untrained"] = captured(untrained_model(model, config.seed), "untrained")
        if base is not None:
            controls["base"] = captured(base, "base")
        if config.embedding:
            controls["embedding"] = embeddings(model, prompts, roles)
        probes = fit_probes(
            acts,
            targets,
            clusters,
            train,
            C=config.C,
            folds=config.folds,
            controls=controls,
            kinds=config.kinds,
            balanced=config.balanced,
            seed=config.seed,
            memory_gib=config.memory_gib,
        )
        write_array(probes, out / "probes.nc")
        by_cluster = config.cluster if config.cluster in prompts.labels else None
        table = tables.probes(probes, groups, by_cluster, draws=config.draws, seed=config.seed)
        table.to_csv(out / "accuracy.csv", index=False)
        if config.save_probes:
            settings: dict[str, Any] = {"kinds": config.kinds, "balanced": config.balanced, "seed": config.seed}
            settings |= {"C": config.C[0], "memory_gib": config.memory_gib, "folds": 1, "keep": True}
            fit_probes(acts, targets, clusters, train, **settings).save(out / "probes.safetensors")
        shutil.rmtree(out / ".activations", ignore_errors=True)
        drawn = {
            f"probes_{site}": figures.probe_curves(cells, f"What a linear probe reads at {site}")
            for site, cells in table.groupby("site", sort=False)
        }
        for name, figure in drawn.items():
            figure.write_html(out / f"{name}.html")
        save_pngs(drawn, out)
        measured = table[table["control"] == NONE]
        best = measured.loc[measured.groupby([*groups, "target", "role"], sort=False)["score"].idxmax()]
        where = [*groups, "target", "site", "layer", "role"]
        beside = table[table["control"] != NONE].pivot(index=where, columns="control", values="score")
        print(f"The layer that reads best, and its controls ({len(prompts)} prompts, {len(set(clusters))} clusters):")
        print(
            best.drop(columns=["control", *best.filter(like="gain")])
            .join(beside, on=where)
            .to_string(index=False, float_format="%.3f")
        )
        print(f"figures: {', '.join(str(out / f'{name}.html') for name in drawn)}")


def _what_is_read(config: ProbeConfig, prompts: "Prompts") -> "tuple[pd.DataFrame, list[Hashable], Any]":
    """The targets, the clusters and the rows to train on [prompt].

    Raises:
        PbbError: a label or group that is not there.
    """
    labels = prompts.labels
    others = {config.cluster, config.group}
    names = list(config.targets or labels.columns.drop([name for name in others if name in labels]))
    named = {"targets": names, "types": [config.types] if config.types else [], "kinds": list(config.kinds)}
    for field_name, given in named.items():
        if unknown := [name for name in given if name not in labels]:
            raise PbbError(
                f"{field_name}: the prompts have no label {unknown[0]!r}, but {', '.join(labels) or 'none'}."
            )
    for name in sorted((others | {str(config.types)}) & set(labels)):
        if labels[name].isna().any():
            at = int(labels[name].isna().argmax())
            raise PbbError(f"Prompt {at} has no {name!r}: give it to every prompt, or name another label.")
        if len({isinstance(value, str) for value in labels[name]}) > 1:
            raise PbbError(f"The label {name!r} is a text in some prompts and a number in others: write texts in all.")
    if not names:
        raise PbbError("There is nothing to read: give the prompts a label, or name one in targets.")
    clusters: Sequence[Hashable] = labels[config.cluster].tolist() if config.cluster in labels else range(len(prompts))
    train = None
    if config.train is not None:
        if config.group not in labels:
            raise PbbError(f"train names groups, and the prompts have no label {config.group!r}: name it in group.")
        groups = labels[config.group].astype(str)
        if absent := sorted(set(config.train) - set(groups)):
            raise PbbError(f"There is no group {absent[0]!r}: the prompts have {', '.join(sorted(set(groups)))}.")
        train = groups.isin(config.train).to_numpy()
    check_folds(config.folds, len({name for i, name in enumerate(clusters) if train is None or train[i]}))
    return labels[names], list(clusters), train
