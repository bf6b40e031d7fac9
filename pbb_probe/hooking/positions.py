"""Activations at any tokens of prompts, such as those of code: one row per token, ready for `fit_probes`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import refuse_nan, run_to
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.readable import as_read
from pbb_probe.hooking.sites import SITES, check_layers, check_sites
from pbb_probe.labels import with_labels
from pbb_probe.schema import BatchSize, LayerList, NameList, checks_arguments

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge


@checks_arguments
def capture_tokens(
    model: "TransformerBridge",
    prompts: Prompts,
    tokens: "pd.DataFrame",
    sites: NameList = ("resid_post",),
    layers: LayerList | None = None,
    batch_size: BatchSize = 256,
) -> "xr.Dataset":
    """The activations of each site at the given tokens; prompts that have none of them are not run.

    Args:
        model: an opened model.
        prompts: what it reads.
        tokens: one row per token, in any order, with the columns `prompt` and `position`; from `code_tokens`, say.
        sites: keys of `SITES`; each becomes a variable.
        layers: all when None.
        batch_size: prompts run together.

    Returns:
        `acts[site]` (layer, role, prompt, [head | kv_head,] d_model | d_head) in float32, as from `capture`. The only
        role is `token`, and the dimension `prompt` runs over the rows of `tokens`. Its coordinates are the columns of
        `tokens`, the labels of the prompt each token stands in, and the number of that prompt, `prompt_index`.

    Raises:
        PbbError: no tokens, or one that is in no prompt; unknown site or layer, or an activation with NaN or infinity.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=4, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.prompts.code_prompts(corpus, model, n=6)
        >>> constants = pbb.prompts.code_tokens(model, prompts).query("node == 'Constant'")
        >>> acts = pbb.prompts.capture_tokens(model, prompts, constants, layers=[3])
        >>> acts["resid_post"].dims, acts.sizes["prompt"] == len(constants)
        (('layer', 'role', 'prompt', 'd_model'), True)
    """
    import numpy as np
    import torch
    import xarray as xr

    layers = check_layers(model, layers)
    names = check_sites(model, sites, layers)
    of_prompt, position = _checked(prompts, tokens)
    position = position - prompts.attention_mask.argmax(1).numpy()[of_prompt]  # counted from the prompt's first token
    used = np.unique(of_prompt)
    read, row = as_read(model, prompts.select(used.tolist())), np.searchsorted(used, of_prompt)
    stored: dict[str, np.ndarray] = {}
    for start in range(0, len(read), batch_size):
        batch = slice(start, start + batch_size)
        cache = run_to(model, read, batch, set(names.values()), max(layers))
        mine = np.flatnonzero((row >= start) & (row < start + batch_size))
        places = torch.as_tensor(row[mine] - start), torch.as_tensor(position[mine])
        for site in sites:
            found = torch.stack([cache[names[site, layer]][places] for layer in layers]).float().cpu().numpy()
            if site not in stored:
                stored[site] = np.empty((len(layers), 1, len(row), *found.shape[2:]), dtype=np.float32)
            stored[site][:, 0, mine] = found  # [layer, token, ...]
    for site, values in stored.items():
        refuse_nan(site, values, layers, of_prompt.tolist())
    variables = {site: (("layer", "role", "prompt", *SITES[site]), values) for site, values in stored.items()}
    acts = xr.Dataset(variables, coords={"layer": layers, "role": ["token"]})
    return with_labels(acts, Tokens(_labels(prompts, tokens, of_prompt)))


@dataclass(frozen=True)
class Tokens:
    """Tokens that stand on the dimension `prompt`, as prompts do."""

    labels: "pd.DataFrame"
    """What is known of each token and of its prompt, one row per token."""
    unit: str = "prompt"


def _labels(prompts: Prompts, tokens: "pd.DataFrame", of_prompt: "np.ndarray") -> "pd.DataFrame":
    """The labels of each token's prompt; columns of `tokens` replace those of the same name."""
    labels = prompts.labels.iloc[of_prompt].reset_index(drop=True).assign(prompt_index=of_prompt)
    return labels.assign(**{str(name): column.to_numpy() for name, column in tokens.items()})


def _checked(prompts: Prompts, tokens: "pd.DataFrame") -> "tuple[np.ndarray, np.ndarray]":
    """Prompt and position [token]."""
    if missing := {"prompt", "position"} - set(tokens.columns):
        raise PbbError(f"The tokens have no column {min(missing)!r}: give a row a token with prompt and position.")
    if not len(tokens):
        raise PbbError("There are no tokens: give at least one row with prompt and position.")
    rows, positions = tokens["prompt"].to_numpy(int), tokens["position"].to_numpy(int)
    mask = prompts.attention_mask.cpu().numpy()
    inside = (rows >= 0) & (rows < mask.shape[0]) & (positions >= 0) & (positions < mask.shape[1])
    there = inside.copy()
    there[inside] = mask[rows[inside], positions[inside]] > 0
    if not there.all():
        odd = int((~there).argmax())
        raise PbbError(
            f"There is no token at position {positions[odd]} of prompt {rows[odd]} (row {odd} of the tokens)."
        )
    return rows, positions
