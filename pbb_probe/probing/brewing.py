"""Brewing: from the layer at which a value can be read to the layer at which the model itself could say it.

The measures and outcomes are those of "From Brewing to Resolution" (arXiv 2606.17648), where the code is in the prompt.
Here they serve any variable, and programs held in the weights. A probe says whether a value is available, the lens
whether it is ready.
"""

from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.labels import CONTROL, NONE, label, with_controls
from pbb_probe.probing.arguments import with_labels_of

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

OUTCOMES = ("resolved", "overprocessed", "misresolved", "unresolved", "no_brewing")
LAYERS = (
    "first_decodable",
    "first_self_decodable",
    "first_joint",
    "brewing",
    "brewing_share",
    "stable_decodable",
    "stable_self_decodable",
)


def brewing(
    decodable: "xr.DataArray",
    self_decodable: "xr.DataArray",
    answered: "np.ndarray | str",
    confidence: "xr.DataArray",
    tail: float = 0.75,
    threshold: float = 0.5,
) -> "xr.Dataset":
    """When each prompt's value is first read by a probe, first said by the lens, and what becomes of it.

    Args:
        decodable: ([control,] layer, prompt), was the probe right? From `fit_probes` at resid_post and one role:
            `probes["correct"].sel(target="output", site="resid_post", role="answer")`. For prompts outside `train` it
            is the share of the folds' probes that were; more than half counts as right.
        self_decodable: ([control,] layer, prompt), `correct` of `lens(..., decode="stripped")` at the same role.
        answered: does the model answer right? [prompt], such as `gives_answers`, or the label of `decodable` that says
            so, `answered`.
        confidence: (layer, value, prompt), `candidates` of the same lens.
        tail: the share of depth behind which confidence counts; the top layer given is taken to be the model's last.
        threshold: on the confidence.

    Returns:
        For each ([control,] prompt), layers counted from 0 and NaN where there is none:
        `first_decodable`, the first layer whose probe is right (the paper's FPCL);
        `first_self_decodable`, the first at which the lens is right, whatever the probe says;
        `first_joint`, the first at which both are right (FJC); `brewing`, the layers from first_decodable to it, and
        `brewing_share`, these as a share of the depth;
        `stable_decodable` and `stable_self_decodable`, the first from which it stays right up to the top;
        `tail_confidence`, the largest over the candidates of their mean probability in the tail;
        `outcome`, one of `OUTCOMES`: `no_brewing` where no probe is right; where there is a first_joint, `resolved` if
        the model answers right and `overprocessed` if not; where there is none, `misresolved` if the tail is confident
        and `unresolved` if not. Of prompts without the value it is empty.

        It carries the labels of these arrays, and the controls that both `decodable` and `self_decodable` have. In
        `shuffled` the same probes and lens are scored against the values of other prompts: what it shows is chance.

        First layers are often right by chance. With ten equally common values, a layer that knows nothing is right in
        one prompt of ten; of six such layers, were they independent, some layer is right in about half of the prompts
        (1 - 0.9^6). The outcomes are defined by first layers all the same, as in the paper: a value that is right from
        some layer up to the top is hardly ever answered wrong, so stable layers would leave no `overprocessed`. Read
        onsets from the stable layers, therefore, and outcomes beside those of the control. Both compare readings, not
        causes: a value may be decodable and never used, and a prompt that is misresolved or unresolved may be answered
        right.

    Raises:
        PbbError: arrays without these dimensions, with other layers or numbers of prompts, or tail not within 0 and 1.

    Example:
        >>> import numpy as np
        >>> import xarray as xr
        >>> layers = {"layer": [0, 1]}
        >>> read, said = (xr.DataArray([[first], [1]], layers, ("layer", "prompt")) for first in (1, 0))
        >>> sure = xr.DataArray([[[0.5]], [[0.9]]], layers, ("layer", "value", "prompt"))
        >>> brewing(read, said, np.array([True]), sure)["outcome"].item()
        'resolved'
    """
    import numpy as np

    if not 0 <= tail < 1:
        raise PbbError(f"tail is a share of the depth from 0 to below 1, not {tail}.")
    names = [name for name in _controls(decodable) if name in _controls(self_decodable)]
    shares = _ordered(confidence, "confidence", ("layer", "value", "prompt"))
    right = label(decodable, answered) if isinstance(answered, str) else answered
    outcomes = with_controls(
        {
            name: _outcomes(
                _ordered(_of_control(decodable, name), "decodable", ("layer", "prompt")),
                _ordered(_of_control(self_decodable, name), "self_decodable", ("layer", "prompt")),
                np.asarray(right, dtype=bool),
                shares,
                tail,
                threshold,
            )
            for name in names
        }
    )
    return with_labels_of(outcomes, decodable, self_decodable, confidence)


def _controls(array: "xr.DataArray") -> list[str]:
    return array[CONTROL].values.tolist() if CONTROL in array.dims else [NONE]


def _of_control(array: "xr.DataArray", name: str) -> "xr.DataArray":
    return array.sel({CONTROL: name}, drop=True) if CONTROL in array.dims else array


def _ordered(array: "xr.DataArray", name: str, dims: tuple[str, ...]) -> "xr.DataArray":
    """The array with its dimensions in this order, and its layers in theirs.

    Raises:
        PbbError: it has other dimensions.
    """
    if set(array.dims) != set(dims):
        raise PbbError(
            f"{name} has the dimensions {', '.join(map(str, array.dims))} and needs {', '.join(dims)}: "
            "select one variable, site and role."
        )
    return array.sortby("layer").transpose(*dims)


def _outcomes(
    decodable: "xr.DataArray",
    self_decodable: "xr.DataArray",
    answered: "np.ndarray",
    confidence: "xr.DataArray",
    tail: float,
    threshold: float,
) -> "xr.Dataset":
    """What `brewing` returns, without labels, of one control or of the measurement."""
    import numpy as np
    import xarray as xr

    arrays = (decodable, self_decodable, confidence)
    n_prompts, of_layers = (
        [array.sizes["prompt"] for array in arrays],
        [array["layer"].values.tolist() for array in arrays],
    )
    if of_layers.count(of_layers[0]) < len(arrays) or len(set(n_prompts)) > 1:
        raise PbbError(
            f"decodable, self_decodable and confidence must have the same layers and prompts: these have the layers "
            f"{of_layers} and {n_prompts} prompts."
        )
    if len(answered) != n_prompts[0]:
        raise PbbError(f"There are {n_prompts[0]} prompts and {len(answered)} answers: give an answer a prompt.")
    layers = decodable["layer"].values.astype(float)
    read, said, shares = (np.asarray(array, dtype=float) for array in arrays)  # [layer, (value,) prompt]
    known = np.isfinite(read).all(0) & np.isfinite(said).all(0)  # [prompt]
    read, said = (read > 0.5) & known, (said > 0.5) & known
    firsts = {
        "first_decodable": _first(read, layers),
        "first_self_decodable": _first(said, layers),
        "first_joint": _first(read & said, layers),
    }
    depth = layers[-1] + 1
    firsts["brewing"] = firsts["first_joint"] - firsts["first_decodable"]
    firsts["brewing_share"] = firsts["brewing"] / depth
    firsts |= {"stable_decodable": _stable(read, layers), "stable_self_decodable": _stable(said, layers)}
    late = layers >= int(tail * depth)
    sure = np.where(known, shares[late].mean(0).max(0), np.nan)  # of the mean over layers [value, prompt]
    joint = np.isfinite(firsts["first_joint"])
    outcome = np.select(
        [~known, ~read.any(0), joint & answered, joint, sure >= threshold],
        ["", "no_brewing", "resolved", "overprocessed", "misresolved"],
        default="unresolved",
    )
    measures = firsts | {"tail_confidence": sure, "outcome": outcome.astype(object)}
    return xr.Dataset({name: ("prompt", values) for name, values in measures.items()})


def _first(right: "np.ndarray", layers: "np.ndarray") -> "np.ndarray":
    """The first layer [prompt] at which [layer, prompt] is true, NaN where it never is."""
    import numpy as np

    return np.where(right.any(0), layers[right.argmax(0)], np.nan)


def _stable(right: "np.ndarray", layers: "np.ndarray") -> "np.ndarray":
    """The first layer [prompt] from which [layer, prompt] is true up to the top, NaN where it is not there."""
    import numpy as np

    return _first(np.logical_and.accumulate(right[::-1])[::-1], layers)
