"""Activations of an opened model at site x layer x role: only those asked for, with no layer run above the last."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.readable import as_read
from pbb_probe.hooking.shards import open_capture, write_labels, write_shards
from pbb_probe.hooking.sites import SITES, check_layers, check_roles, check_sites
from pbb_probe.labels import with_labels
from pbb_probe.schema import AnyPlace, BatchSize, LayerList, NameList, checks_arguments

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from transformer_lens import ActivationCache, TransformerBridge


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
        prompts: what the model reads.
        sites: keys of `SITES`; each becomes a variable.
        layers: all when None.
        roles: all when None.
        batch_size: prompts run together.
        out: a folder for activations larger than memory. Each batch is written to a safetensors file as it is done;
            files that are there already are not computed again, so that a stopped capture is resumed. The Dataset
            leaves values on disk until they are used, and `open_capture` returns it again.

    Returns:
        `acts[site]` (layer, role, prompt, [head | kv_head,] d_model | d_head) in float32, with the labels of the
        prompts as coordinates on `prompt`; NaN at roles that a prompt lacks.

    Raises:
        PbbError: an unknown site, layer or role; an activation with other axes than stated, or with NaN or infinity
            (the message says where); prompts that the model cannot read together; or a folder of another capture.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=8)  # 8 of each group
        >>> acts = pbb.capture(model, prompts, roles=["name", "answer"])
        >>> dict(acts["resid_post"].sizes)
        {'layer': 6, 'role': 2, 'prompt': 16, 'd_model': 128}
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
    import numpy as np
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
        read[site][:, (places < 0).cpu().numpy()] = np.nan
    return read


def run_to(
    model: "TransformerBridge", prompts: Prompts, rows: slice, names: Collection[str], layer: int
) -> "ActivationCache":
    """The activations [prompt, position, ...] at the named hooks, from a forward of some prompts up to a layer.

    The prompts are those of `as_read`.

    Raises:
        PbbError: a hook never fired.
    """
    import torch

    tokens = prompts.tokens[rows].to(model.cfg.device)
    with torch.inference_mode():
        ran = model.run_with_cache(tokens, names_filter=lambda name: name in names, stop_at_layer=layer + 1)
    cache: ActivationCache = ran[1]
    if missing := set(names) - set(cache.cache_dict):
        raise PbbError(f"The hook {min(missing)} never fired: this site cannot be captured on this model.")
    return cache


def refuse_nan(site: str, values: "np.ndarray", layers: list[int], prompts: Sequence[int]) -> None:
    """Refuse values [layer, role, row, ...] with NaN or infinity; `prompts` says which prompt each row is of."""
    import numpy as np

    if not (finite := np.isfinite(values)).all():
        layer, _, row = np.argwhere(~finite)[0][:3]
        raise PbbError(
            f"The activation {site} at layer {layers[layer]} is NaN or infinite for prompt {prompts[row]}: "
            "look for NaN in the weights, or load the model in float32."
        )
