"""What can be asked of an opened model: sites and their axes, layers, roles; and a clear refusal of what cannot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError, first_line
from pbb_probe.hooking.prompts import Prompts

if TYPE_CHECKING:
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
    from transformer_lens.utilities.components_utils import get_act_name

    if site not in SITES:
        raise PbbError(f"Unknown site {site!r}: choose from {', '.join(SITES)}.")
    name: str = get_act_name(site, layer)
    if name not in model.hook_dict:
        raise PbbError(f"This model has no site {site!r} at layer {layer} (no hook {name}).")
    return name


def check_sites(model: "TransformerBridge", sites: Sequence[str], layers: Sequence[int]) -> dict[tuple[str, int], str]:
    """The hook of each site at each layer, once its activation is known to have the axes in `SITES`.

    One short forward finds out, of a number of tokens that cannot be mistaken for heads.

    Raises:
        PbbError: no site, one that this architecture lacks, or one whose activation has other axes.
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
    except Exception as error:  # hooks rely on what TransformerLens assumes about a module
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
    heads: int = (model.cfg.n_key_value_heads if dim == "kv_head" else None) or model.cfg.n_heads
    return heads


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
