"""What probes are compared with: probes of other values, of other activations, or judged by other values.

An accuracy means something only beside these. Each control answers one objection:

    shuffled      "some are right by luck": the same probes, judged by the values of other prompts
    selectivity   "the probe memorised it": the control task of Hewitt and Liang (2019, 1909.03368)
    permutation   "it follows from the program alone": values permuted among the prompts of each cluster
    chance        "it guesses": the most common class, or the mean, of the rows that are fitted on
    relabelled    "the probe evaluates the program itself": states under another meaning of the operators (Jin and
                  Rinard 2023, 2305.11169); a probe that reads them as well is computing, not reading
    untrained     "any network does that": the same prompts in the untrained model, or in the `base` model
    embedding     "the tokens say it": the embeddings of the roles' tokens, before any layer
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator

from pbb_probe.errors import PbbError
from pbb_probe.labels import NONE
from pbb_probe.probing.arguments import codes_of, with_labels_of
from pbb_probe.programs.passes import STATES, pass_targets
from pbb_probe.programs.program import Program, Trace, call_arguments, try_programs
from pbb_probe.programs.relabel import relabelled
from pbb_probe.schema import Name, NameList, Rule, Seed, checked, checks_arguments, listed, refuse_unknown, shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts

Control = Literal[
    "selectivity", "permutation", "chance", "shuffled", "relabelled", "untrained", "base", "embedding",
    "self", "random", "mean_difference",
]  # fmt: skip
"""What a measurement is compared with: of probes what stands above, of transfer maps the last three and `untrained`."""
CONTROLS: tuple[Control, ...] = ("selectivity", "permutation", "chance", "shuffled")
"""The controls of `fit_probes` that need nothing but its own arguments."""


def controls_out_of(names: Sequence[Control], more: str = "") -> Rule:
    """The rule of a list of different controls out of these, which may be empty; `more` is put behind its words."""

    def known(given: Sequence[Control]) -> Sequence[Control]:
        refuse_unknown("control", given, names)
        return given

    rule = listed(f"controls out of {', '.join(names)}{more}", 0)
    return Rule(rule.words, *rule.checks, AfterValidator(known))


ControlList = Annotated[Sequence[Control], controls_out_of(CONTROLS, ", or a mapping from names to what they need")]


def read_controls(controls: "Sequence[Control] | Mapping[str, Any]", acts: "xr.Dataset") -> dict[str, Any]:
    """The controls of `fit_probes` by name, each with what it needs: None, types [prompt], a table or activations.

    Raises:
        PbbError: a control that is unknown or lacks what it needs, or that has another number of rows than prompts.
    """
    import pandas as pd
    import xarray as xr

    if not isinstance(controls, Mapping):
        return dict.fromkeys(checked("controls", controls, ControlList))
    n, needs = acts.sizes["prompt"], dict(controls)
    for name, need in controls.items():
        checked("The name of a control", name, Name)
        if isinstance(need, (pd.DataFrame, xr.Dataset)):
            rows = len(need) if isinstance(need, pd.DataFrame) else need.sizes.get("prompt", 0)
            if name in (NONE, *CONTROLS):
                raise PbbError(
                    f"{name!r} is a name that controls have already: call these values or activations another."
                )
            if rows != n:
                raise PbbError(f"There are {n} prompts, and the control {name!r} has {rows}: give the same.")
        elif name == "selectivity":
            needs[name] = None if need is None else codes_of(acts, need, "selectivity").tolist()
        elif name not in CONTROLS:
            raise PbbError(
                f"The control {name!r} needs a table of other values or a Dataset of activations, not {shown(need)}."
            )
        elif need is not None:
            raise PbbError(f"The control {name!r} needs nothing: give it None, not {shown(need)}.")
    return needs


def control_task(targets: "pd.DataFrame", types: Sequence[Hashable], seed: int = 0) -> "pd.DataFrame":
    """Each target with random classes: one for each type, drawn from the target's own distribution.

    The control task of Hewitt and Liang (2019): a probe that learns these too has memorised which type has which class.

    Args:
        targets: a column a target, a row a prompt; missing values stay missing.
        types: what classes are drawn for, such as the program or its name [prompt].
        seed: of the draws.

    Returns:
        A table of the same columns and rows, in which all prompts of a type have the same value.

    Example:
        >>> import pandas as pd
        >>> import pbb_probe as pbb
        >>> targets = pd.DataFrame({"output": [3, 1, 4, 5]})
        >>> pbb.controls.control_task(targets, types=["f", "f", "g", "g"])["output"].tolist()
        [5, 5, 4, 4]
    """
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    codes = pd.factorize(pd.Series(list(types)))[0]
    dealt = {}
    for name, values in targets.items():
        known = values.dropna().to_numpy()
        dealt[name] = pd.Series(rng.choice(known, codes.max() + 1)[codes]).where(values.notna().to_numpy())
    return pd.DataFrame(dealt)


def permuted_within(targets: "pd.DataFrame", clusters: Sequence[Hashable], seed: int = 0) -> "pd.DataFrame":
    """Each target with its values permuted among the rows of each cluster.

    A target that follows from the cluster alone is the same afterwards; one that also depends on the prompt is not.

    Args:
        targets: a column a target, a row a prompt.
        clusters: what each prompt belongs to, such as its program [prompt].
        seed: of the permutations.

    Returns:
        A table with as many rows. Missing values stay where they are. A row that is alone in its cluster becomes
        missing, as there is nothing to permute, and a target all of whose rows are alone has no column.

    Example:
        >>> import pandas as pd
        >>> import pbb_probe as pbb
        >>> targets = pd.DataFrame({"output": [3, 1, 4, 5]})
        >>> pbb.controls.permuted_within(targets, clusters=["f", "f", "g", "g"])["output"].tolist()
        [1, 3, 5, 4]
    """
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    codes = pd.factorize(pd.Series(list(clusters)))[0]
    dealt = {}
    for name, column in targets.reset_index(drop=True).items():
        known = column.notna()
        known &= known.groupby(codes).transform("sum") > 1
        if not known.any():
            continue
        rows = np.flatnonzero(known)
        shuffled = rows[np.lexsort([rng.random(len(rows)), codes[rows]])]  # by cluster, in a random order within
        permuted = column.where(known)
        permuted.iloc[rows[np.argsort(codes[rows], kind="stable")]] = column.to_numpy()[shuffled]
        dealt[name] = permuted
    return pd.DataFrame(dealt, index=range(len(targets)))


@checks_arguments
def shuffled_values(targets: "pd.DataFrame", seed: Seed = 0) -> "pd.DataFrame":
    """Each target's values permuted among the prompts that have one: a control for whatever is scored against them.

    Columns that have values in the same prompts are permuted alike, whatever table they are in.

    Args:
        targets: a column a target, a row a prompt; missing values stay where they are.
        seed: of the permutation.

    Example:
        >>> import pandas as pd
        >>> from pbb_probe.probing.controls import shuffled_values
        >>> sorted(shuffled_values(pd.DataFrame({"output": [3, 1, 2]}))["output"])
        [1, 2, 3]
    """
    import numpy as np
    import pandas as pd

    dealt = {}
    for name, column in targets.items():
        rows, known = np.arange(len(column)), np.flatnonzero(column.notna())
        rows[known] = np.random.default_rng(seed).permutation(known)
        dealt[name] = column.iloc[rows].set_axis(column.index)
    return pd.DataFrame(dealt)


@checks_arguments
def relabelled_targets(labels: "pd.DataFrame", targets: Sequence[str], seed: Seed = 0) -> "pd.DataFrame":
    """Trace variables of each call under another meaning of its program's operators (`programs.relabel`).

    Args:
        labels: those of `make_prompts`: program, source and call, and the targets.
        targets: the states and the output among these names are traced again; other variables do not depend on the
            meaning of operators.
        seed: of the permutation of operators.

    Returns:
        A column for each of these targets, a row a call. A value is missing where the target's is, where the relabelled
        program cannot be run, and where it is no value of the target, so that probes of both tell the same classes
        apart. A target of which nothing is left, or that is the same under both meanings, has no column.

    Raises:
        PbbError: labels without program, source or call, or a call that cannot be read.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=30)
        >>> list(relabelled_targets(prompts.labels, ["input", "output"]))
        ['output']
    """
    import pandas as pd

    if lacking := {"program", "source", "call"} - set(labels.columns):
        raise PbbError(f"The labels have no column {min(lacking)!r}: give those of make_prompts.")
    chosen = [name for name in targets if name == "output" or name.startswith(STATES)]
    calls = labels.reset_index(drop=True).groupby(["program", "source"], sort=False)["call"].unique()
    others = [Program(name, "", relabelled(source, seed)) for name, source in calls.index]
    inputs = [[call_arguments(name, call) for call in given] for (name, _), given in calls.items()]
    traced: dict[tuple[str, str], Trace] = {}
    for (name, _), given, traces in zip(calls.index, calls, try_programs(others, inputs), strict=True):
        traced |= {(name, call): trace for call, trace in zip(given, traces or [], strict=False)}
    rows = [
        trace.variables() | pass_targets(relabelled(source, seed), trace) if (trace := traced.get((name, call))) else {}
        for name, source, call in zip(labels["program"], labels["source"], labels["call"], strict=True)
    ]
    table = pd.DataFrame({name: [row.get(name) for row in rows] for name in chosen}, range(len(labels)), dtype=object)
    for name in chosen:
        original = labels[name].reset_index(drop=True)
        table[name] = table[name].where(original.notna() & table[name].isin(original.dropna().unique()))
        known = table[name].notna()
        if table[name].nunique() < 2 or (table[name] == original)[known].all():
            table = table.drop(columns=name)
    return table


@checks_arguments
def embeddings(model: "TransformerBridge", prompts: "Prompts", roles: NameList) -> "xr.Dataset":
    """The input embeddings of the roles' last tokens side by side, as activations of a single place.

    What a linear probe reads of them takes no layer of the model. They contain positions where a model adds these to
    its embeddings.

    Args:
        model: an opened model.
        prompts: whose tokens are embedded.
        roles: whose tokens.

    Returns:
        `embed` (layer, role, prompt, d_model) of layer 0 and the role `all`, as wide as all embeddings together, with
        the labels of the prompts; zeros for a role that a prompt lacks.

    Raises:
        PbbError: an unknown role.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=8)
        >>> embeddings(model, prompts, ["name", "input"])["embed"].shape
        (1, 1, 16, 256)
    """
    import numpy as np
    import xarray as xr
    from einops import rearrange

    from pbb_probe.hooking.capture import capture

    acts = capture(model, prompts, ("resid_pre",), [0], roles)
    embed = rearrange(acts["resid_pre"].values, "layer role prompt d_model -> layer 1 prompt (role d_model)")
    embed = np.nan_to_num(embed)
    array = xr.Dataset(
        {"embed": (("layer", "role", "prompt", "d_model"), embed)}, coords={"layer": [0], "role": ["all"]}
    )
    return with_labels_of(array, acts)
