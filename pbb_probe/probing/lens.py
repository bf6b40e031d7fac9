"""The lens: what would the model say at each layer, of each state and of the output? Two readings, neither trained.

`logit`, the logit lens (nostalgebraist 2020): the residual h after block l goes straight to the model's own final norm
and unembedding, logits = unembed(norm(h)), as if the blocks above were not there. TransformerLens computes it.

`stripped`, Context-Stripped Decoding (arXiv 2606.17648), a Patchscope (Ghandeharioun et al. 2024, 2401.06102): h takes
the place of the last position's residual after block l in a target prompt without the program, and the blocks above
run there. They cannot fetch anything from the prompt, so that they say only what h already holds.

Of values of several tokens one is read: the first that tells them apart, as it follows the prompt. What all of them
begin with stands behind the prompt then, and values that share that first token are one candidate.

A value that is said at layer l need not be what the model goes on to use there. One that is not said may be held in a
form that neither reading understands: early layers need not write in the unembedding's directions, and blocks may fail
in a context that they were not trained on. Probes (`probing.linear`) and patching say more of both.
"""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answers import answer_ids
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.prompts import Prompts, grown
from pbb_probe.hooking.sites import check_eval, check_layers, check_roles, hook_name
from pbb_probe.labels import CONTROL, NONE, with_labels
from pbb_probe.models.tokens import common_start
from pbb_probe.probing.controls import Control, controls_out_of, shuffled_values
from pbb_probe.schema import BatchSize, LayerList, NameList, Seed, checked, checks_arguments, refuse_unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge
    from transformer_lens.hook_points import HookPoint

Decoding = Literal["logit", "stripped"]
DECODINGS: tuple[Decoding, ...] = get_args(Decoding)
LensControls = Annotated[Sequence[Control], controls_out_of(("shuffled",))]
MEASURES = ("log_prob", "rank", "probability", "correct")


@checks_arguments
def lens(
    model: "TransformerBridge",
    prompts: Prompts,
    variables: "pd.DataFrame | Sequence[str]",
    values: Sequence[Hashable] | None = None,
    roles: NameList = ("answer",),
    layers: LayerList | None = None,
    decode: Decoding = "logit",
    target: str | None = None,
    subtract: bool = False,
    controls: LensControls = (),
    seed: Seed = 0,
    batch_size: BatchSize = 256,
) -> "xr.Dataset":
    """The trajectory of each variable's value over the layers of the residual stream (resid_post, as in `capture`).

    Args:
        model: an opened model in eval mode.
        prompts: what it reads.
        variables: names of labels of the prompts, such as state_1 and output, or a table with a column a variable and
            a row a prompt; missing values are left out. Values of several tokens are told by the first that is not
            common to all candidates, as [3, 10] and [5, 1] by the 3 and the 5. Whole numbers that stand as floats
            beside missing values, as 7.0, are read as integers.
        values: the candidates that are compared; all that the variables take when None.
        roles: the places read.
        layers: all when None.
        decode: one of `DECODINGS`, see above.
        target: of `stripped`, the text of the target prompt, at whose end the residual is put; it should name neither
            program nor input. When None it is the shortest there is: the token of the role `answer` alone, behind BOS
            where the prompts begin with it, so that the blocks above attend to that and to the residual.
        subtract: in `stripped`, take the candidates' logits in the target prompt alone from theirs, as the paper does,
            so that what the target makes likely does not count. What it takes away is not there to be taken behind the
            last block, where the residual is all there is: without it the top layer says what the model answers,
            whatever the target, and with it as much else as the target alone has opinions.
        controls: `shuffled` or nothing: each variable scored against the values of other prompts (`shuffled_values`).
        seed: of the control.
        batch_size: prompts run together.

    Returns:
        For each ([control,] variable, layer, role, prompt), NaN where the value is missing: `log_prob` of the value's
        token, in nats, and `rank`, the number of tokens that are likelier, both over the whole vocabulary and before
        any subtraction; `probability`, the softmax over the candidates, and `correct`, 1 where the value is the
        likeliest of them, else 0, both after it. And `candidates` (value, layer, role, prompt), that softmax for all of
        them, the values as text; where some are several tokens, `value` is the first token that tells them apart, and
        the attribute `first_token` is 1. By chance one in as many as there are candidates is correct at every layer,
        and more where one value is common: the control shows how many. Variables that agree in many prompts, such as a
        state that the last step left alone and the output, are read together: select prompts in which they differ. The
        labels of the prompts stand on `prompt`; one that is called like a variable of this, as `correct`, is called
        `prompt_correct`.

    Raises:
        PbbError: no variable, a label that is not there, or another number of rows than prompts, a value that is
            unknown to the tokenizer or not among the candidates, values of several tokens that all begin alike, an
            unknown role, layer, decoding or control, a target for the logit lens, or a model in train mode.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=8)
        >>> pbb.lens(model, prompts, ["output"], controls=["shuffled"])["rank"].mean("prompt").dims
        ('control', 'variable', 'layer', 'role')
    """
    import numpy as np
    import pandas as pd
    import torch
    import xarray as xr
    from einops import rearrange
    from transformer_lens.tools.analysis.logit_lens import logit_readout

    check_eval(model)
    layers, roles = check_layers(model, layers), check_roles(prompts, roles)
    if decode not in DECODINGS:
        raise PbbError(f"Unknown decoding {decode!r}: choose from {', '.join(DECODINGS)}.")
    if target is not None and decode != "stripped":
        raise PbbError('A target is what decode="stripped" runs: the logit lens has none.')
    table = _table(prompts, variables)
    scored = [table, *(shuffled_values(table, seed) for _ in controls)]  # the values that each row is scored against
    names, wanted = _candidates(pd.concat(scored, axis=1), values)
    prompts, ids = _apart(model, prompts, names)
    names, tokens, wanted, first_token = _by_first_token(model, names, ids, wanted)
    targets = _targets(model, prompts, target) if decode == "stripped" else None
    places = (len(layers), len(roles), len(prompts))
    measures = {name: np.empty((len(wanted), *places), np.float32) for name in MEASURES}
    shares = np.empty((len(names), *places), np.float32)
    for start in range(0, len(prompts), batch_size):
        rows = slice(start, start + batch_size)
        batch = prompts.select(range(len(prompts))[rows])
        acts = capture(model, batch, layers=layers, roles=roles, batch_size=batch_size)
        baseline = torch.zeros(1)
        if targets is not None and subtract:
            baseline = _at_the_end(model, targets[rows])[:, tokens]  # [row, candidate]
        for (i, layer), j in itertools.product(enumerate(layers), range(len(roles))):
            resid = torch.from_numpy(acts["resid_post"].values[i, j])  # [row, d_model]
            if targets is None:
                logits = logit_readout(model, resid, chunk_size=batch_size).values.float()
            else:
                logits = _at_the_end(model, targets[rows], (layer, resid))
            lacking = batch.roles[roles[j]] < 0
            measured, softmax = _measures(logits, baseline.to(logits), tokens, wanted[:, rows].masked_fill(lacking, -1))
            shares[:, i, j, rows] = softmax
            for name, array in measured.items():
                measures[name][:, i, j, rows] = array
    made: dict[str, Any] = {"candidates": (("value", "layer", "role", "prompt"), shares)}
    for name, array in measures.items():
        array = rearrange(array, "(control variable) ... -> control variable ...", control=len(scored))
        dims = ("variable", "layer", "role", "prompt")
        made[name] = ((CONTROL, *dims), array) if controls else (dims, array[0])
    coords = {"variable": list(table.columns), "layer": layers, "role": roles, "value": names}
    looked = xr.Dataset(
        {name: made[name] for name in (*MEASURES, "candidates")},
        coords=coords | ({CONTROL: [NONE, *controls]} if controls else {}),
        attrs={"decode": decode}
        | ({} if targets is None else {"subtract": int(subtract)})
        | ({"first_token": 1} if first_token else {}),
    )
    return with_labels(looked, prompts)


def _table(prompts: Prompts, variables: "pd.DataFrame | Sequence[str]") -> "pd.DataFrame":
    """The variables, a column each and a row a prompt: those given, or the labels that are named.

    Raises:
        PbbError: a label that is not there, or another number of rows than prompts.
    """
    import pandas as pd

    if not isinstance(variables, pd.DataFrame):
        names = list(checked("variables", variables, NameList))
        refuse_unknown("label", names, list(prompts.labels), "variables")
        variables = prompts.labels[names]
    if len(variables) != len(prompts):
        raise PbbError(f"There are {len(prompts)} prompts and {len(variables)} rows of variables: give a row a prompt.")
    return variables


def _candidates(variables: "pd.DataFrame", given: Sequence[Hashable] | None) -> "tuple[list[str], torch.Tensor]":
    """The candidates as text, and which of them each variable has in each prompt [variable, prompt]; -1 for none."""
    import torch

    typed = variables.convert_dtypes()  # integers again where missing values had made floats of them
    if not typed.notna().any(axis=None):
        raise PbbError("There is no value to look for: give at least one variable with a value.")
    names = list(dict.fromkeys(map(str, _all_values(typed) if given is None else given)))
    place = {name: i for i, name in enumerate(names)}
    rows = []
    for variable, column in typed.items():
        known = column.notna().to_numpy()
        if strange := set(map(str, column[known])) - set(names):
            raise PbbError(f"The value {min(strange)!r} of {variable!r} is not among the candidates: add it to values.")
        rows.append([place[str(value)] if there else -1 for value, there in zip(column, known, strict=True)])
    return names, torch.tensor(rows)


def _all_values(variables: "pd.DataFrame") -> list[Hashable]:
    """All values that the variables have, in order."""
    values = {value for _, column in variables.items() for value in column.dropna()}
    try:
        return sorted(values)
    except TypeError:  # of several kinds
        return sorted(values, key=str)


def _apart(model: "TransformerBridge", prompts: Prompts, names: Sequence[str]) -> "tuple[Prompts, torch.Tensor]":
    """The prompts up to where the candidates part, and the ids [candidate, k] of each from there, padded with -1.

    They are those with which it follows the first prompt, and so any other: a space or a turn is between.
    """
    import torch

    ids = answer_ids(model, prompts.select([0] * len(names)), names)
    lengths = (ids >= 0).sum(1)
    start = common_start(ids.tolist(), int(lengths.min()) - 1) if len(names) > 1 else []
    if not start:
        return prompts, ids
    longer, last = grown(prompts, torch.tensor(start).expand(len(prompts), -1))
    spans = longer.spans | {"answer": torch.stack([last, last], dim=1)}
    return replace(longer, spans=spans), ids[:, len(start) :]


def _by_first_token(
    model: "TransformerBridge", names: list[str], ids: "torch.Tensor", wanted: "torch.Tensor"
) -> "tuple[list[str], torch.Tensor, torch.Tensor, bool]":
    """The candidates, their tokens [candidate], the places among them [variable, prompt], and is it of first tokens?

    Candidates of one token each stay what they are.

    Raises:
        PbbError: they have several tokens and all begin with the same one.
    """
    import torch

    if ids.shape[1] == 1:
        return names, ids[:, 0], wanted, False
    tokens = list(dict.fromkeys(ids[:, 0].tolist()))
    if len(tokens) == 1:
        raise PbbError(
            f"Every value is several tokens or begins like {names[0]!r}, and none is told by its first token: the lens "
            "reads one position, so leave such variables out."
        )
    place = torch.tensor([tokens.index(token) for token in ids[:, 0].tolist()])
    texts = [model.tokenizer.decode([token]).strip() for token in tokens]
    if len(set(texts)) < len(texts):  # with a space before it and without, say
        texts = model.tokenizer.convert_ids_to_tokens(tokens)
    return texts, torch.tensor(tokens), place[wanted].where(wanted >= 0, -1), True


def _targets(model: "TransformerBridge", prompts: Prompts, target: str | None) -> "torch.Tensor":
    """Token ids [prompt, position] of what each prompt's residuals are put at the end of."""
    import torch

    if target is not None:
        given = Prompts.from_texts(model, [target], special_tokens=prompts.special_tokens)
        return given.tokens.expand(len(prompts), -1)
    rows = torch.arange(len(prompts))
    first = prompts.tokens[rows, prompts.attention_mask.argmax(1)]
    last = prompts.tokens[rows, prompts.roles["answer"]]
    bos = model.tokenizer.bos_token_id
    return torch.stack([last] if bos is None or bool((first != bos).any()) else [first, last], dim=1)


def _at_the_end(
    model: "TransformerBridge", targets: "torch.Tensor", put: "tuple[int, torch.Tensor] | None" = None
) -> "torch.Tensor":
    """Logits [row, d_vocab] at the end of targets [row, position].

    `put` is a layer and the residuals [row, d_model] that take the place of the target's own at its end, after the
    layer's block. The blocks up to it run for nothing: targets are so short that starting above them is not worth it.
    """
    import torch

    fired = []

    def put_in(activation: "torch.Tensor", hook: "HookPoint", resid: "torch.Tensor") -> "torch.Tensor":
        fired.append(hook)
        changed = activation.clone()
        changed[:, -1] = resid.to(activation)
        return changed

    hooks = []
    if put is not None:
        layer, resid = put
        hooks = [(hook_name(model, "resid_post", layer), partial(put_in, resid=resid))]
    with torch.inference_mode():
        logits: torch.Tensor = model.run_with_hooks(targets.to(model.cfg.device), fwd_hooks=hooks)
    if len(fired) != len(hooks):
        raise PbbError(f"The hook {hooks[0][0]} never fired: this model cannot be read this way.")
    return logits[:, -1].float()


def _measures(
    logits: "torch.Tensor", baseline: "torch.Tensor", tokens: "torch.Tensor", places: "torch.Tensor"
) -> "tuple[dict[str, np.ndarray], np.ndarray]":
    """The `MEASURES` [variable, row] of candidates at `places` [variable, row], and the softmax [candidate, row].

    Logits are [row, d_vocab], the baseline [row, candidate] or [1], and the candidates' tokens [candidate].
    """
    import torch
    from einops import rearrange

    tokens, places = tokens.to(logits.device), places.to(logits.device)
    scores = logits[:, tokens] - baseline
    softmax, index = scores.softmax(-1), places.clamp(min=0)
    of_value = rearrange(
        logits.gather(1, rearrange(tokens[index], "variable row -> row variable")), "row variable -> variable row"
    )
    values = (
        of_value - logits.logsumexp(-1),
        torch.stack([(logits > of_variable[:, None]).sum(1) for of_variable in of_value]),
        rearrange(softmax.gather(1, rearrange(index, "variable row -> row variable")), "row variable -> variable row"),
        scores.argmax(1) == places,
    )
    known = [value.float().where(places >= 0, torch.nan).cpu().numpy() for value in values]
    return dict(zip(MEASURES, known, strict=True)), rearrange(softmax, "row candidate -> candidate row").cpu().numpy()
