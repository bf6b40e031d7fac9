"""Activation patching sweeps timed: TransformerLens, plain hooks and nnsight against `patch_sweep` and a lower limit.

    python experiments/benchmark_patching.py
    python experiments/benchmark_patching.py --cases all
    python experiments/benchmark_patching.py --cases tail-8 heads-8 --devices cpu --threads 4

What is timed, on random Llama models in float32 and with the difference of two logits at the last position as metric:
    TransformerLens   `generic_activation_patch` on the bridge: a full forward a cell (a layer, position and head)
    plain hooks       a torch hook on the bare Hugging Face model: a full forward a cell
    nnsight           several cells in one trace, each an invoke that patches its own rows (its own copy of the model)
    patch_sweep       `pbb_probe.patch_sweep` as it is called, its clean run and its check of itself included
    limit             nothing but the decoder layers of the bare model, on the tokens that a change can reach: for each
                      position p and layer l all cells at p that have entered by l, [cells * pairs, length - p, d_model]
                      in calls of at most `TOKENS`, without the tokens before p; one token a row in the last layer, and
                      in the layer of a patched head. No embedding, no head, no patch, no attention to what is before p.
The first three take the same time for every cell and are timed on a random sample of cells, scaled up to the grid;
their clean run is made beforehand and not counted. Without a cache of keys, and with the logits of the last position
only, where a method can do so. Each method is warmed up, then all are timed in turn; the fastest time of each counts.

Cells that change nothing are left out by `patch_sweep` and by the limit: positions before the first token that differs,
equal embeddings (both in `one-token-8`), and heads of the last layer before the answer. The others run all cells.

The effects of all methods on the sample are compared in the same run; the script fails where one differs from those of
plain hooks by more than `TOLERANCE` of the spread of the metric, its standard deviation over random prompts.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from transformer_lens import TransformerBridge
from transformer_lens.patching import generic_activation_patch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

import pbb_probe as pbb

TOLERANCE = 1e-5
TOKENS = {"cpu": 1024, "cuda": 2**16}
"""In one call of a layer in the limit, and in one nnsight trace: a CPU's caches hold no more."""
INVOKES = (2, 64)
"""In one nnsight trace, at least and at most."""
SAMPLE = {"cpu": 24, "cuda": 256}
"""Cells that the cell-by-cell methods are timed on."""
Cell = tuple[int, int, int]
"""Layer, position and head; head 0 of sites without heads."""
Method = Callable[[list[Cell]], torch.Tensor | None]
"""Cells to their effects [cell, pair]."""


@dataclass(frozen=True)
class Size:
    layers: int
    d_model: int
    d_mlp: int
    heads: int
    kv_heads: int
    vocabulary: int = 512


@dataclass(frozen=True)
class Case:
    size: Size
    pairs: int
    length: int = 32
    last: int = 32
    """How many positions are swept, at the end."""
    site: str = "resid_pre"
    differing: int | None = None
    """The one position at which the tokens of a pair differ; all when None."""

    @property
    def grid(self) -> list[Cell]:
        heads = self.size.heads if self.site == "z" else 1
        positions = range(self.length - self.last, self.length)
        return list(itertools.product(range(self.size.layers), positions, range(heads)))

    def __str__(self) -> str:
        size = self.size
        grouped = "" if size.heads == size.kv_heads else f", {size.heads} heads on {size.kv_heads}"
        heads = f"{size.heads} heads' z" if self.site == "z" else self.site
        one = "" if self.differing is None else f", only token {self.differing} differs"
        pairs = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        positions = f"{self.last} of {self.length} positions"
        return f"{size.layers} layers, d {size.d_model}{grouped}; {heads}, {positions}, {pairs}{one}"


PROMPT = Case(Size(12, 256, 688, 8, 8), pairs=8)
TAIL = replace(PROMPT, length=128, last=16)
CASES = {
    **{f"prompt-{pairs}": replace(PROMPT, pairs=pairs) for pairs in (1, 8, 32)},
    **{f"tail-{pairs}": replace(TAIL, pairs=pairs) for pairs in (1, 8, 32)},
    "heads-8": replace(PROMPT, site="z"),
    "one-token-8": replace(PROMPT, differing=16),
    "nano-8": replace(PROMPT, size=Size(6, 128, 384, 4, 4)),
    "grouped-8": replace(PROMPT, size=Size(24, 512, 1376, 8, 2)),
    "large-8": replace(TAIL, size=Size(24, 1024, 2752, 16, 4)),
}
QUICK = ("prompt-1", "prompt-8", "tail-1", "tail-8", "heads-8", "one-token-8", "nano-8")


def new_model(size: Size, device: str) -> LlamaForCausalLM:
    """The same weights each time, large enough that changes show, and small enough that rounding errors do not."""
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.d_model,
        intermediate_size=size.d_mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        initializer_range=0.6 * size.d_model**-0.5,
    )
    torch.manual_seed(0)
    model: LlamaForCausalLM = LlamaForCausalLM(config).eval().requires_grad_(False).to(device)
    return model


def new_pairs(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean and corrupted token ids [pair, position]."""
    generator = torch.Generator().manual_seed(0)
    shape, vocabulary = (case.pairs, case.length), case.size.vocabulary
    clean = torch.randint(vocabulary, shape, generator=generator)
    other = (clean + torch.randint(1, vocabulary, shape, generator=generator)) % vocabulary
    if case.differing is None:
        return clean, other
    corrupted = clean.clone()
    corrupted[:, case.differing] = other[:, case.differing]
    return clean, corrupted


def metric(logits: torch.Tensor) -> torch.Tensor:
    """[pair, d_vocab] -> [pair]"""
    return logits[:, 7] - logits[:, 11]


def spread_of_metric(case: Case, model: LlamaForCausalLM, device: str) -> float:
    prompts = torch.randint(case.size.vocabulary, (64, case.length), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return float(metric(model(prompts.to(device), use_cache=False).logits[:, -1]).std())


def part(case: Case, cell: Cell) -> tuple[slice, int, slice]:
    """Where a cell stands in an activation [pair, position, d_model], whose heads lie side by side."""
    _, position, head = cell
    width = case.size.d_model // case.size.heads
    return slice(None), position, slice(head * width, (head + 1) * width) if case.site == "z" else slice(None)


def by_transformer_lens(case: Case, bridge: Any, clean: torch.Tensor, corrupted: torch.Tensor) -> Method:
    with torch.inference_mode():
        _, cache = bridge.run_with_cache(clean, names_filter=lambda name: name.endswith(f"hook_{case.site}"))

    def put(activation: torch.Tensor, index: Any, clean_activation: Any) -> torch.Tensor:
        _, position, head = index
        where = (slice(None), position, head) if case.site == "z" else (slice(None), position)
        activation[where] = clean_activation[where]
        return activation

    def effects(cells: list[Cell]) -> torch.Tensor:
        table = pd.DataFrame(cells, columns=["layer", "pos", "head_index"])
        with torch.inference_mode():
            result = generic_activation_patch(
                bridge, corrupted, cache, lambda logits: metric(logits[:, -1]), put, case.site, index_df=table,
                reduce="none",
            )  # fmt: skip
        return result.values.reshape(len(cells), case.pairs)

    return effects


def by_plain_hooks(case: Case, model: LlamaForCausalLM, clean: torch.Tensor, corrupted: torch.Tensor) -> Method:
    blocks = model.model.layers
    modules: list[Any] = [block.self_attn.o_proj if case.site == "z" else block for block in blocks]
    kept: list[torch.Tensor] = []

    def forward(ids: torch.Tensor) -> torch.Tensor:
        return metric(model(ids, use_cache=False, logits_to_keep=1).logits[:, -1])

    def patched(cell: Cell) -> torch.Tensor:
        where = part(case, cell)

        def before(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            activation = args[0].clone()
            activation[where] = kept[cell[0]][where]
            return (activation, *args[1:])

        handle = modules[cell[0]].register_forward_pre_hook(before)
        try:
            return forward(corrupted)
        finally:
            handle.remove()

    handles = [module.register_forward_pre_hook(lambda _, args: kept.append(args[0])) for module in modules]
    with torch.inference_mode():
        forward(clean)
    for handle in handles:
        handle.remove()

    def effects(cells: list[Cell]) -> torch.Tensor:
        with torch.inference_mode():
            return torch.stack([patched(cell) for cell in cells])

    return effects


def by_nnsight(case: Case, hf_model: LlamaForCausalLM, clean: torch.Tensor, corrupted: torch.Tensor) -> Method:
    import nnsight
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    # Ids are given, but its wrapper for language models wants a tokenizer with a padding token.
    words = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")
    model = nnsight.TransformersModel(hf_model, tokenizer=tokenizer, device=str(clean.device))
    blocks = model.model.layers
    modules = [block.self_attn.o_proj if case.site == "z" else block for block in blocks]
    at_once = min(max(TOKENS[clean.device.type] // clean.numel(), INVOKES[0]), INVOKES[1])
    with torch.inference_mode(), model.trace(clean, use_cache=False):
        kept = nnsight.save([])
        for module in modules:
            kept.append(module.input)

    def effects(cells: list[Cell]) -> torch.Tensor:
        found: list[torch.Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(cells), at_once):
                with model.trace(use_cache=False, logits_to_keep=1) as tracer:
                    values = nnsight.save([])
                    for cell in cells[start : start + at_once]:
                        with tracer.invoke(corrupted):
                            where = part(case, cell)
                            modules[cell[0]].input[where] = kept[cell[0]][where]
                            values.append(metric(model.output.logits[:, -1]))
                found += values
        return torch.stack(found)

    return effects


def by_patch_sweep(case: Case, bridge: TransformerBridge, clean: torch.Tensor, corrupted: torch.Tensor) -> Method:
    clean, corrupted = clean.cpu(), corrupted.cpu()

    def effects(cells: list[Cell]) -> torch.Tensor:
        layers, positions, _ = (sorted(set(axis)) for axis in zip(*cells, strict=True))
        sweep = pbb.patch_sweep(
            bridge, clean=clean, corrupted=corrupted, metric=metric, sites=(case.site,), layers=layers,
            positions=positions,
        )[case.site]  # fmt: skip
        values = torch.from_numpy(sweep.values)  # [layer, (head,) position, pair]
        values = values if case.site == "z" else values[:, None]
        return torch.stack([values[layers.index(i), head, positions.index(p)] for i, p, head in cells])

    return effects


def by_layers_alone(case: Case, model: LlamaForCausalLM, device: str) -> Method:
    """What no sweep that runs the model's own layers can be faster than: no effects, only the time."""
    last, end, per_head = case.size.layers - 1, case.length - 1, case.site == "z"
    heads = case.size.heads if per_head else 1
    rows = case.size.layers * heads * case.pairs
    hidden = torch.randn(rows, case.length, case.size.d_model, device=device)
    with torch.inference_mode():
        rotary = model.model.rotary_emb(hidden, torch.arange(case.length, device=device)[None])

    def run(layer: int, n_cells: int, start: int) -> None:
        """One layer on the positions from `start` on of all pairs of so many cells."""
        cos, sin = (angles[:, start:] for angles in rotary)
        for some in hidden[: n_cells * case.pairs, start:].split(TOKENS[device] // (case.length - start)):
            if len(some):
                model.model.layers[layer](some, position_embeddings=(cos, sin))

    def changes(cell: Cell) -> bool:
        layer, position, _ = cell
        if per_head and layer == last and position < end:
            return False
        first = case.differing
        return first is None or position == first or (position > first and (layer > 0 or per_head))

    def only_time(cells: list[Cell]) -> None:
        reached = [cell for cell in cells if changes(cell)]
        with torch.inference_mode():
            for position in sorted({position for _, position, _ in reached}):
                own = [layer for layer, p, _ in reached if p == position]
                for layer in range(min(own), last + 1):
                    entering, before = own.count(layer), sum(other < layer for other in own)
                    if per_head:
                        run(layer, entering, end)
                        entering = 0
                    run(layer, before + entering, end if layer == last else position)

    return only_time


def fastest(
    methods: dict[str, tuple[Method, list[Cell]]], repeats: int, patience: float, device: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """The seconds of each method and its effects [cell, pair], all run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    effects = {}
    for method, cells in methods.values():
        method(cells[:4])
    for _ in range(repeats):
        for name, (method, cells) in methods.items():
            if sum(seconds[name]) > patience:
                continue
            wait(device)
            started = time.perf_counter()
            effects[name] = method(cells)
            wait(device)
            seconds[name].append(time.perf_counter() - started)
    return {name: min(times) for name, times in seconds.items()}, effects


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(case: Case, device: str, sample: int, repeats: int, patience: float) -> list[str]:
    """The rows of the table, a method each.

    Raises:
        SystemExit: methods that disagree, or effects so alike that agreement says nothing.
    """
    clean, corrupted = (ids.to(device) for ids in new_pairs(case))
    bridge, bare = pbb.load_model(new_model(case.size, device)), new_model(case.size, device)
    grid = case.grid
    chosen = random.Random(0).sample(grid, min(sample, len(grid)))
    methods: dict[str, tuple[Method, list[Cell]]] = {
        "TransformerLens": (by_transformer_lens(case, bridge, clean, corrupted), chosen),
        "plain hooks": (by_plain_hooks(case, bare, clean, corrupted), chosen),
    }
    if importlib.util.find_spec("nnsight"):
        methods["nnsight"] = (by_nnsight(case, new_model(case.size, device), clean, corrupted), chosen)
    methods["patch_sweep"] = (by_patch_sweep(case, bridge, clean, corrupted), grid)
    methods["limit"] = (by_layers_alone(case, bare, device), grid)
    seconds, effects = fastest(methods, repeats, patience, device)
    expected = effects["plain hooks"].cpu()
    spread = spread_of_metric(case, bare, device)
    if not expected.std(0).max() > 100 * TOLERANCE * spread:
        raise SystemExit(f"{case}: the effects of the cells hardly differ, so that their agreement says nothing.")
    rows = []
    for name in ("TransformerLens", "plain hooks", "nnsight", "patch_sweep", "limit"):
        if name not in methods:
            rows.append(f"| {case}; {device} | {name} | not installed | | | | |")
            continue
        cells = methods[name][1]
        scaled = {key: value * len(grid) / len(methods[key][1]) for key, value in seconds.items()}
        ratios = f"{scaled['TransformerLens'] / scaled[name]:.1f} | {scaled[name] / scaled['limit']:.2f}"
        difference = ""
        if effects[name] is not None and name != "plain hooks":
            found = effects[name].cpu()[[cells.index(cell) for cell in chosen]]
            worst = float((found - expected).abs().max()) / spread
            difference = f"{worst:.1e}"
            if not worst < TOLERANCE:
                raise SystemExit(f"{case}: {name} differs from plain hooks by {difference} of the spread.")
        counted = f"{len(cells)} of {len(grid)}"
        rows.append(f"| {case}; {device} | {name} | {counted} | {scaled[name]:.2f} | {ratios} | {difference} |")
    return rows


def versions(devices: list[str]) -> str:
    packages = ("torch", "transformers", "transformer-lens", "nnsight")
    found = [
        f"{name} {importlib.metadata.version(name)}"
        for name in packages
        if importlib.util.find_spec(name.replace("-", "_"))
    ]
    cards = [torch.cuda.get_device_name()] if "cuda" in devices else []
    return ", ".join([*found, *cards, f"{torch.get_num_threads()} threads on the CPU"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", nargs="+", choices=[*CASES, "all"], help=f"on the CPU {', '.join(QUICK)}, on a GPU all by default"
    )
    parser.add_argument(
        "--devices", nargs="+", choices=list(TOKENS), default=list(TOKENS) if torch.cuda.is_available() else ["cpu"]
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--sample", type=int, help=f"cells that the cell-by-cell methods are timed on, by default {SAMPLE}"
    )
    parser.add_argument(
        "--patience", type=float, default=20, help="a method that has taken so many seconds is not repeated"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    print(versions(options.devices) + "\n")
    print(
        "| case | method | cells timed | seconds a grid | times faster than TransformerLens | times the limit |", end=""
    )
    print(" largest disagreement |\n|---|---|---|---|---|---|---|")
    for device in options.devices:
        names = options.cases or (QUICK if device == "cpu" else CASES)
        for name in CASES if "all" in names else names:
            rows = measure(CASES[name], device, options.sample or SAMPLE[device], options.repeats, options.patience)
            print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
