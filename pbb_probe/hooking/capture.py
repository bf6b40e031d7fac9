"""Activations at site x layer x role: only what is asked for is kept, and nothing above the last layer is run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

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


def check_layers(model: "TransformerBridge", layers: Sequence[int] | None) -> list[int]:
    """The layers asked for, all of them when None.

    Raises:
        PbbError: a layer the model does not have.
    """
    chosen = list(range(model.cfg.n_layers)) if layers is None else list(layers)
    if not chosen or min(chosen) < 0 or max(chosen) >= model.cfg.n_layers:
        raise PbbError(f"layers must be between 0 and {model.cfg.n_layers - 1}, not {chosen}.")
    return chosen


def check_roles(prompts: Prompts, roles: Sequence[str] | None) -> list[str]:
    """The roles asked for, all of them when None.

    Raises:
        PbbError: a role the prompts do not have.
    """
    chosen = list(prompts.roles) if roles is None else list(roles)
    if unknown := [role for role in chosen if role not in prompts.roles]:
        raise PbbError(f"Unknown role {unknown[0]!r}: these prompts have {', '.join(prompts.roles)}.")
    return chosen


def capture(
    model: "TransformerBridge",
    prompts: Prompts,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    roles: Sequence[str] | None = None,
    batch_size: int = 256,
) -> "xr.Dataset":
    """The activations of each site at the last token of each role.

    Args:
        model: an opened model.
        prompts: what it reads.
        sites: keys of `SITES`; each becomes a variable.
        layers: all when None.
        roles: all when None.
        batch_size: prompts run together.

    Returns:
        `acts[site]` (layer, role, prompt, [head | kv_head,] d_model | d_head) in float32.

    Raises:
        PbbError: unknown site, layer or role, or an activation that is NaN or infinite (the message says where).
    """
    import numpy as np
    import torch
    import xarray as xr

    layers, roles = check_layers(model, layers), check_roles(prompts, roles)
    names = {(site, layer): hook_name(model, site, layer) for site in sites for layer in layers}
    wanted = set(names.values())
    places = torch.stack([prompts.roles[role] for role in roles])  # [role, prompt]
    stored: dict[str, list] = {site: [] for site in sites}
    for start in range(0, len(prompts), batch_size):
        rows = slice(start, start + batch_size)
        tokens, inputs = model_inputs(model, prompts, rows)
        with torch.inference_mode():
            _, cache = model.run_with_cache(
                tokens, names_filter=lambda name: name in wanted, stop_at_layer=max(layers) + 1, **inputs
            )
        if missing := wanted - set(cache.keys()):
            raise PbbError(f"The hook {min(missing)} never fired: this site cannot be captured on this model.")
        batch = torch.arange(len(tokens))
        for site in sites:
            at_roles = [cache[names[site, layer]][batch, places[:, rows]] for layer in layers]  # [role, prompt, ...]
            stored[site].append(torch.stack(at_roles).float().cpu().numpy())
    variables = {}
    for site in sites:
        values = np.concatenate(stored[site], axis=2)
        _refuse_nan(site, values, layers)
        variables[site] = (("layer", "role", "prompt", *SITES[site]), values)
    return xr.Dataset(variables, coords={"layer": layers, "role": roles})


def _refuse_nan(site: str, values, layers: list[int]) -> None:
    import numpy as np

    if not (finite := np.isfinite(values)).all():
        layer, _, prompt = np.argwhere(~finite)[0][:3]
        raise PbbError(
            f"The activation {site} at layer {layers[layer]} is NaN or infinite for prompt {prompt}: "
            "look for NaN in the weights, or load the model in float32."
        )


def answer_logits(model: "TransformerBridge", prompts: Prompts, batch_size: int = 256) -> "torch.Tensor":
    """The logits [prompt, d_vocab] of the token that follows each prompt's `answer` position, on the CPU."""
    import torch

    rows = []
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        tokens, inputs = model_inputs(model, prompts, batch)
        with torch.inference_mode():
            logits = model(tokens, **inputs)
        rows.append(logits[torch.arange(len(tokens)), prompts.roles["answer"][batch]].float().cpu())
    return torch.cat(rows)


def model_inputs(model: "TransformerBridge", prompts: Prompts, rows: slice) -> "tuple[torch.Tensor, dict]":
    """Some prompts' tokens with the mask and positions that make padding on either side harmless."""
    mask = prompts.attention_mask[rows].to(model.cfg.device)
    inputs = {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    return prompts.tokens[rows].to(model.cfg.device), inputs
