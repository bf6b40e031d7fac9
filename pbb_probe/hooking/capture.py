"""Activations of an opened model at site x layer x role: only those asked for, with no layer run above the last."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError, first_line
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.readable import as_read
from pbb_probe.hooking.shards import open_capture, write_labels, write_shards
from pbb_probe.labels import with_labels
from pbb_probe.schema import AnyPlace, BatchSize, LayerList, NameList, checks_arguments

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from transformer_lens import ActivationCache, TransformerBridge

SITES = {
    "resid_pre": ("d_model",),
    "resid_mid": ("d_model",),
    "resid_post": ("d_model",),
    "attn_out": ("d_model",),
    "mlp_out": ("d_model",),
    "z": ("head", "d_head"),
    "q": ("head", "d_head"),
    "k": ("kv_head", "d_head"),
    "v": ("kv_head", "d_head"),
}
"""Each site with the dimensions of its activation at one position."""


def hook_name(model: "TransformerBridge", site: str, layer: int) -> str:
    """TransformerLens's name of a site at a layer.

    Raises:
        PbbError: unknown site, or one this architecture does not have (parallel blocks have no resid_mid).
    """
    from transformer_lens.utilities import get_act_name

    if site not in SITES:
        raise PbbError(f"Unknown site {site!r}: choose from {', '.join(SITES)}.")
    name = get_act_name(site, layer)
    if name not in model.hook_dict:
        raise PbbError(f"This model has no site {site!r} at layer {layer} (no hook {name}).")
    return name


def check_sites(model: "TransformerBridge", sites: Sequence[str], layers: Sequence[int]) -> dict[tuple[str, int], str]:
    """The hook of each site at each layer, its activation of the shape that `SITES` says.

    One short run finds out: of fewer tokens than could be mistaken for heads.

    Raises:
        PbbError: no site, or one that this architecture does not have, or whose activation has other axes.
    """
    import torch

    if not sites:
        raise PbbError(f"There is no site: choose from {', '.join(SITES)}.")
    if len(set(sites)) < len(sites):
        raise PbbError(f"A site is named twice: {', '.join(sites)}.")
    names = {(site, layer): hook_name(model, site, layer) for site in sites for layer in layers}
    sizes = {name: n_heads(model, name) for name in ("head", "kv_head")} | {"d_model": model.cfg.d_model}
    length = next(n for n in (3, 4, 5) if n not in sizes.values())
    tokens = torch.zeros(2, length, dtype=torch.long, device=model.cfg.device)
    try:
        with torch.inference_mode():
            _, cache = model.run_with_cache(
                tokens, names_filter=lambda name: name in names.values(), stop_at_layer=max(layers) + 1
            )
    except Exception as error:  # hooks rest on what TransformerLens takes for granted of a module
        raise PbbError(
            f"{', '.join(sites)} cannot be reached on this model ({first_line(error)}): choose other sites."
        ) from error
    seen = {name: tuple(activation.shape) for name, activation in cache.items()}
    for (site, layer), name in names.items():
        if name not in seen:
            raise PbbError(f"The hook {name} never fired: the site {site!r} cannot be reached on this model.")
        dims = SITES[site]
        wanted = (2, length, *(sizes.get(dim) for dim in dims))  # d_head may be of queries and keys, or of values
        fits = len(seen[name]) == len(wanted) and all(w in (None, n) for w, n in zip(wanted, seen[name], strict=True))
        if not fits:
            axes = ", ".join(("prompt", "position", *dims))
            raise PbbError(
                f"The activation {site} at layer {layer} has the shape {list(seen[name])} for 2 prompts of {length} "
                f"tokens, which is not [{axes}]: this model's attention is of another kind, so choose other sites."
            )
        first = names[site, layers[0]]
        if seen[name] != seen[first]:
            raise PbbError(
                f"The activation {site} has the shape {list(seen[name])} at layer {layer} and {list(seen[first])} at "
                f"layer {layers[0]}: ask for layers of one kind at a time."
            )
    return names


def n_heads(model: "TransformerBridge", dim: str) -> int:
    """How many heads there are on a dimension of `SITES`, `head` or `kv_head`."""
    return (model.cfg.n_key_value_heads if dim == "kv_head" else None) or model.cfg.n_heads


def check_layers(model: "TransformerBridge", layers: Sequence[int] | None) -> list[int]:
    """The layers asked for, all of them when None.

    Raises:
        PbbError: a layer the model does not have.
    """
    chosen = list(range(model.cfg.n_layers)) if layers is None else list(layers)
    if not chosen or min(chosen) < 0 or max(chosen) >= model.cfg.n_layers:
        raise PbbError(f"layers must be between 0 and {model.cfg.n_layers - 1}, not {chosen}.")
    return chosen


def check_eval(model: "TransformerBridge") -> None:
    """Refuse a model in train mode.

    Raises:
        PbbError: it is.
    """
    if model.training:
        raise PbbError("The model is in train mode, where dropout makes every run another: call its eval() first.")


def check_roles(prompts: Prompts, roles: Sequence[str] | None) -> list[str]:
    """The roles asked for, all of them when None.

    Raises:
        PbbError: a role the prompts do not have.
    """
    chosen = list(prompts.roles) if roles is None else list(roles)
    if unknown := [role for role in chosen if role not in prompts.roles]:
        raise PbbError(f"Unknown role {unknown[0]!r}: these prompts have {', '.join(prompts.roles)}.")
    return chosen


@checks_arguments
def capture(
    model: "TransformerBridge",
    prompts: Prompts,
    sites: NameList = ("resid_post",),
    layers: LayerList | None = None,
    roles: NameList | None = None,
    batch_size: BatchSize = 256,
    out: AnyPlace | None = None,
) -> "xr.Dataset":
    """The activations of each site at the last token of each role.

    Args:
        model: an opened model.
        prompts: what it reads.
        sites: keys of `SITES`; each becomes a variable.
        layers: all when None.
        roles: all when None.
        batch_size: prompts run together.
        out: a folder for activations larger than memory. They are written as they come, a safetensors file a batch;
            what is there already is not computed again, so that a capture goes on where it was stopped. The Dataset
            leaves them on disk until they are looked at, and `open_capture` gives it again.

    Returns:
        `acts[site]` (layer, role, prompt, [head | kv_head,] d_model | d_head) in float32, with the labels of the
        prompts as coordinates on `prompt`.

    Raises:
        PbbError: unknown site, layer or role, an activation of other axes than said or that is NaN or infinite (the
            message says where), prompts that the model cannot read together, or a folder that holds another capture.
    """
    import numpy as np
    import xarray as xr

    layers, roles = check_layers(model, layers), check_roles(prompts, roles)
    names, prompts = check_sites(model, sites, layers), as_read(model, prompts)
    starts = range(0, len(prompts), batch_size)
    dims = {site: ("layer", "role", "prompt", *SITES[site]) for site in sites}

    def read(start: int, n: int = batch_size) -> "dict[str, np.ndarray]":
        return _read(model, prompts, names, roles, slice(start, start + n))

    if out is not None:
        asked = {"sites": {s: list(d) for s, d in dims.items()}, "layers": layers, "roles": roles}
        places = [prompts.roles[role] for role in roles]
        content = [x.cpu().numpy() for x in (prompts.tokens, prompts.attention_mask, *places)]
        write_shards(out, {**asked, "prompts": len(prompts)}, content, starts, read, lambda start: read(start, 1))
        write_labels(out, prompts)
        return open_capture(out)
    stored: dict[str, np.ndarray] = {}
    for start in starts:
        for site, values in read(start).items():
            if site not in stored:
                stored[site] = np.empty((*values.shape[:2], len(prompts), *values.shape[3:]), np.float32)
            stored[site][:, :, start : start + batch_size] = values
    variables = {site: (dims[site], values) for site, values in stored.items()}
    return with_labels(xr.Dataset(variables, coords={"layer": layers, "role": roles}), prompts)


def _read(
    model: "TransformerBridge", prompts: Prompts, names: dict[tuple[str, int], str], roles: Sequence[str], rows: slice
) -> "dict[str, np.ndarray]":
    """Activations [layer, role, prompt, ...] by site of some prompts; `names` are the hooks of site and layer."""
    import torch

    sites, layers = (list(dict.fromkeys(part)) for part in zip(*names, strict=True))
    cache = run_to(model, prompts, rows, set(names.values()), max(layers))
    places = torch.stack([prompts.roles[role] for role in roles])[:, rows]
    batch = torch.arange(places.shape[1])
    read = {}
    for site in sites:
        at_roles = [cache[names[site, layer]][batch, places] for layer in layers]  # [role, prompt, ...]
        read[site] = torch.stack(at_roles).float().cpu().numpy()
        refuse_nan(site, read[site], layers, range(rows.start, rows.start + len(batch)))
    return read


def run_to(
    model: "TransformerBridge", prompts: Prompts, rows: slice, names: Collection[str], layer: int
) -> "ActivationCache":
    """The activations [prompt, position, ...] of the hooks named, from a run of some prompts that ends after a layer.

    The prompts are those of `as_read`.

    Raises:
        PbbError: a hook never fired.
    """
    import torch

    tokens = prompts.tokens[rows].to(model.cfg.device)
    with torch.inference_mode():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names, stop_at_layer=layer + 1)
    if missing := set(names) - set(cache.keys()):
        raise PbbError(f"The hook {min(missing)} never fired: this site cannot be captured on this model.")
    return cache


def refuse_nan(site: str, values: "np.ndarray", layers: list[int], prompts: Sequence[int]) -> None:
    """Refuse values [layer, role, row, ...] that are no numbers; `prompts` says which prompt each row is of."""
    import numpy as np

    if not (finite := np.isfinite(values)).all():
        layer, _, row = np.argwhere(~finite)[0][:3]
        raise PbbError(
            f"The activation {site} at layer {layers[layer]} is NaN or infinite for prompt {prompts[row]}: "
            "look for NaN in the weights, or load the model in float32."
        )
