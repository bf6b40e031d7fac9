"""The command `patch`: pairs of prompts from a file, patched at every place, as tables and figures."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pbb_probe.hooking.sites import SITES
from pbb_probe.labels import AUTO, CONTROL, NONE
from pbb_probe.patching.grid import Replacement
from pbb_probe.patching.transfer import CONTROLS
from pbb_probe.probing.controls import Control, controls_out_of
from pbb_probe.schema import Draws, Gibibytes, Layers, Names, Place, Seed, Text, check_fields, listed, refuse_unknown
from pbb_probe.store.disk import write_array
from pbb_probe.store.writable import WritableRun

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from transformer_lens import TransformerBridge

    from pbb_probe.patching.pairs import Pairs
    from pbb_probe.patching.sweep import SweepSettings

Metric = Literal["answer_difference", "logit_difference", "log_prob", "probability", "negative_kl"]


@dataclass(frozen=True)
class PatchConfig:
    """Pairs of prompts whose activations are put into one another."""

    model: Place
    """nano, a Hugging Face model directory, or a hub id."""
    prompts: Place
    """JSONL file of pairs: clean, corrupted, answers, roles (see `pbb_probe.patching.files.read_pairs`)."""
    sites: Names = ("resid_pre", "attn_out", "mlp_out")
    """TransformerLens sites; z, q, k and v are patched head by head."""
    layers: Layers | None = None
    """All when null."""
    roles: Names | None = None
    """Places in the prompt; those of the file, and answer, when null."""
    every_position: bool = False
    """Patch every token position instead of roles."""
    whole_spans: bool = True
    """Patch all tokens of a role; its last one when false."""
    metrics: Annotated[tuple[Metric, ...], listed(f"metrics out of {', '.join(get_args(Metric))}")] = (
        "answer_difference",
    )
    """What a patched forward is measured by. answer_difference: log-probability of the clean answer minus that of the
    corrupted one; log_prob: of the clean one; logit_difference and probability: of the answers' first tokens;
    negative_kl: from the prediction of the clean prompt."""
    noising: bool = False
    """Patch the clean prompts with activations of the corrupted ones, instead of the other way round."""
    replace_with: Replacement = "other"
    """What is put in: the other prompt's activation, its mean or zero (ablations), or a control."""
    donor_model: Place | None = None
    """Model that activations are taken from, such as the base of a finetuned one; the model itself when null."""
    transfer: bool = False
    """Draw the transfer map too: the pairs need the labels program, source and call."""
    controls: Annotated[tuple[Control, ...], controls_out_of(CONTROLS)] = CONTROLS
    """Further transfer maps, which should show nothing."""
    gap: Text = " "
    """What stands between a prompt and its answer."""
    special_tokens: bool = True
    """Let the tokenizer add those it begins texts with; not where the texts bring them."""
    memory_gib: Gibibytes = 2.0
    """What recorded and running activations may take."""
    draws: Draws = 10_000
    """Bootstrap resamples."""
    seed: Seed = 0
    """Of resamples and random vectors."""
    out: Place = "patching"
    """Directory for effects.nc, recovery.csv and its figure; carried.nc, carried.csv and its figure."""

    def __post_init__(self) -> None:
        check_fields(self)
        refuse_unknown("site", self.sites, SITES, "sites")


def patch(config: PatchConfig) -> None:
    """Put one prompt's activations into another's forward: what does each place restore, and what does it carry?"""
    from pbb_probe.evidence import tables
    from pbb_probe.hooking.load import load_model
    from pbb_probe.hooking.sites import check_layers, check_roles
    from pbb_probe.models.bases import available_device
    from pbb_probe.patching.alignment import align
    from pbb_probe.patching.checks import check_sweep
    from pbb_probe.patching.files import read_pairs
    from pbb_probe.patching.sweep import SweepSettings, patch_sweep
    from pbb_probe.patching.transfer import check_transfer
    from pbb_probe.views import figures
    from pbb_probe.views.images import save_pngs

    device = available_device()
    model = load_model(config.model, device=device)
    pairs = read_pairs(config.prompts, model, config.gap, config.special_tokens)
    donor_model = None if config.donor_model is None else load_model(config.donor_model, device=device)
    layers = check_layers(model, config.layers)  # before anything is written
    check_roles(pairs.clean, config.roles)
    positions = None if config.every_position else config.roles or list(pairs.clean.roles)
    aligned = align(pairs, positions, whole_spans=config.whole_spans)
    check_sweep(model, aligned, config.sites, layers, replace_with=config.replace_with, donor_model=donor_model)
    metrics = _metrics(config.metrics, model, pairs)
    if config.transfer:
        check_transfer(model, pairs, config.sites, layers, config.roles, config.controls, config.whole_spans)
    run = WritableRun(config.out)
    out = run.path
    settings = SweepSettings(config.whole_spans, memory_gib=config.memory_gib, resume=out / ".layers")
    with run.writing():
        effects = patch_sweep(
            model,
            pairs,
            metric=metrics,
            sites=config.sites,
            layers=config.layers,
            positions=positions,
            noising=config.noising,
            replace_with=config.replace_with,
            donor_model=donor_model,
            seed=config.seed,
            settings=settings,
        )
        write_array(effects, out / "effects.nc")
        clusters = AUTO if "program" in pairs.labels else None
        table = tables.recovery(effects, (), clusters, draws=config.draws, seed=config.seed)
        table.to_csv(out / "recovery.csv", index=False)
        first = table[table["metric"] == config.metrics[0]]
        title = f"Recovery by {config.metrics[0]}, {len(pairs)} pairs ({effects.attrs['direction']})"
        drawn = {"patching": figures.sweep_heatmap(first, title)}
        top = first.sort_values("recovery", ascending=False).head(10).dropna(axis="columns", how="all")
        words = [
            f"{title}: the ten highest of {len(first)} places, by the exact engine {effects.attrs['method']!r}.",
            top.to_string(index=False, float_format="%.3f"),
        ]
        if config.transfer:
            drawn["transfer"], more = _transfer(config, model, pairs, settings, out)
            words += more
        shutil.rmtree(out / ".layers")  # all of it is in effects.nc and carried.nc
        for name, figure in drawn.items():
            figure.write_html(out / f"{name}.html")
        save_pngs(drawn, out)
        print("\n".join(words))
        print(f"figures: {', '.join(str(out / f'{name}.html') for name in drawn)}")


def _metrics(names: tuple[Metric, ...], model: "TransformerBridge", pairs: "Pairs") -> dict[str, Any]:
    from pbb_probe.hooking.answering import answer_logits
    from pbb_probe.patching import metrics

    clean, corrupted = pairs.answer_ids(model)
    made: dict[str, Callable[[], Any]] = {
        "answer_difference": lambda: metrics.answer_difference(clean, corrupted),
        "logit_difference": lambda: metrics.logit_difference(clean[:, 0], corrupted[:, 0]),
        "log_prob": lambda: metrics.log_prob(clean),
        "probability": lambda: metrics.probability(clean[:, 0]),
        "negative_kl": lambda: metrics.negative_kl(answer_logits(model, pairs.clean)),
    }
    return {name: made[name]() for name in names}


def _transfer(
    config: PatchConfig, model: "TransformerBridge", pairs: "Pairs", settings: "SweepSettings", out: Path
) -> "tuple[Figure, list[str]]":
    """The transfer map of the pairs drawn, and what most of them carry at each place in words."""
    from pbb_probe.evidence import tables
    from pbb_probe.patching.transfer import transfer_map
    from pbb_probe.views import figures

    carried = transfer_map(
        model,
        pairs,
        sites=config.sites,
        roles=config.roles,
        layers=config.layers,
        controls=config.controls,
        seed=config.seed,
        settings=settings,
    )
    write_array(carried, out / "carried.nc")
    table = tables.transfer(carried, (), draws=config.draws, seed=config.seed).assign(group="all pairs")
    table.to_csv(out / "carried.csv", index=False)
    counts = "{qualified} of {given} pairs tell whole evaluations apart".format(**carried.attrs)
    words = [f"What most pairs carry: {counts}."]
    for site, cells in table[table[CONTROL] == NONE].groupby("site", sort=False):
        rows = [name for name in ("layer", "head", "kv_head") if name in cells and cells[name].notna().all()]
        of_all = cells.assign(pairs=cells["proportion"] * cells["n"])  # hypotheses tell something in different pairs
        most = cells.loc[of_all.groupby([*rows, "role"], sort=False)["pairs"].idxmax()]
        most = most.assign(words=most["hypothesis"] + most["proportion"].map(" {:.0%}".format))
        grid = most.pivot(index=rows, columns="role", values="words")[list(dict.fromkeys(most["role"]))]
        words.append(grid.rename_axis(columns=str(site)).to_string())
    return figures.transfer_map(table, f"What each place carries: {counts}", groups=["all pairs"]), words
