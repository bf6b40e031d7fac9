"""Any measure of tokens by the type of syntax node they belong to: which parts of code is it about?"""

from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def by_node(values: "xr.DataArray", tokens: "pd.DataFrame") -> "xr.DataArray":
    """The mean over the tokens of each type of syntax node, within each prompt.

    Prompts are kept apart so that `interval_table` can follow, with the programs of `labels["program"]` as clusters.

    Args:
        values: (..., prompt), a value for each row of `tokens`, as probes of `capture_tokens` have them; or (...,
            position, pair), as `patch_sweep` has them, where pairs are what `tokens` calls prompts.
        tokens: from `code_tokens`, with the columns `prompt`, `position` and `node`.

    Returns:
        (..., node, prompt | pair), the prompts being those that `tokens` names and the pairs all there are; missing
        where a prompt has no token of that type at the positions measured, or no value there.

    Raises:
        PbbError: values of other dimensions, another number of them than tokens, or positions that are names of roles
            or at which none of the tokens stands.

    Example:
        >>> import pandas as pd
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> tokens = pd.DataFrame({"prompt": [0, 0, 1], "position": [4, 5, 4], "node": ["Name", "Name", "Constant"]})
        >>> pbb.tables.by_node(xr.DataArray([1.0, 0.0, 1.0], dims="prompt"), tokens).sel(node="Name").values.tolist()
        [0.5, nan]
    """
    import numpy as np
    import pandas as pd
    import xarray as xr
    from einops import rearrange

    if missing := {"prompt", "position", "node"} - set(tokens.columns):
        raise PbbError(f"The tokens have no column {min(missing)!r}: make them with code_tokens.")
    of_prompt, node = tokens["prompt"].to_numpy(int), tokens["node"].to_numpy(str)
    if values.dims[-1] == "prompt":
        if len(tokens) != values.sizes["prompt"]:
            raise PbbError(f"There are {values.sizes['prompt']} values and {len(tokens)} tokens: give a value a token.")
        over, units = values.dims[:-1], np.unique(of_prompt)
        flat = rearrange(np.asarray(values, dtype=float), "... token -> (...) token")
    elif values.dims[-2:] == ("position", "pair"):
        over, units = values.dims[:-2], np.arange(values.sizes["pair"])
        where = pd.Index(values["position"].values)
        if not pd.api.types.is_integer_dtype(where):
            raise PbbError("These positions are names of roles, not tokens: patch at positions to see nodes.")
        position = where.get_indexer(tokens["position"])
        measured = (position >= 0) & (of_prompt < len(units))
        if not measured.any():
            raise PbbError("None of the tokens stands at a position that was measured: patch where the code is.")
        of_prompt, node, position = of_prompt[measured], node[measured], position[measured]
        flat = rearrange(np.asarray(values, dtype=float)[..., position, of_prompt], "... token -> (...) token")
    else:
        raise PbbError(f"Values must be (..., prompt) or (..., position, pair); these are {tuple(values.dims)}.")
    types = np.unique(node)
    means = pd.DataFrame(flat.T).groupby([node, of_prompt]).mean()  # skips what is missing
    means = means.reindex(pd.MultiIndex.from_product([types, units]))
    unit = values.dims[-1]
    shape = [*(values.sizes[dim] for dim in over), len(types), len(units)]
    kept = {*over, "pair"}
    coords = {name: coord for name, coord in values.coords.items() if kept.issuperset(coord.dims)}
    coords |= {"node": types} | ({"prompt": units} if unit == "prompt" else {})
    return xr.DataArray(means.to_numpy().T.reshape(shape), dims=(*over, "node", unit), coords=coords, name=values.name)
