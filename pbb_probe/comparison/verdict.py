"""What a run says in words, generated from its tables; "not found" where nothing clears the bar."""

from typing import TYPE_CHECKING

from pbb_probe.programs.corpus import GROUPS

if TYPE_CHECKING:
    import pandas as pd


def describe(
    behaviour: "pd.DataFrame",
    located: "pd.DataFrame",
    patching: "pd.DataFrame",
    probing: "pd.DataFrame",
    transfer: "pd.DataFrame",
    threshold: float,
) -> list[str]:
    """Sentences on behaviour, on where each group's program and input go, and on the difference between the groups.

    Args:
        behaviour: from `accuracy_table`, with the model `finetuned`.
        located: from `located_table`.
        patching: from `patching_table`.
        probing: from `probing_table`.
        transfer: from `transfer_table`.
        threshold: what `located` was made with.
    """
    sentences, meaningful = _behaviour(behaviour)
    if not meaningful:
        return [
            *sentences,
            "Direct answers to without_io programs are not above chance: the layer maps below locate nothing.",
        ]
    for group in GROUPS:
        sentences.append(_places(located, group, threshold))
        sentences.append(_carried(transfer, group, threshold))
    sentences.append(_difference(patching, "recovery", "swap"))
    sentences.append(_difference(probing, "probe accuracy", "target"))
    return sentences


def _behaviour(table: "pd.DataFrame") -> tuple[list[str], bool]:
    finetuned = table[(table["model"] == "finetuned") & ~((table["group"] == "with_io") & table["seen"])]
    parts, meaningful = [], False
    for cell in finetuned.sort_values(["mode", "group", "steps"]).itertuples():
        parts.append(
            f"{cell.group}, {cell.mode}, {cell.steps} step{'s' * (cell.steps > 1)}: {cell.mean:.0%} "
            f"[{cell.lower:.0%}, {cell.upper:.0%}] of {cell.n} calls (chance {cell.chance:.0%})"
        )
        meaningful |= bool(cell.group == "without_io" and cell.mode == "direct" and cell.lower > cell.chance)
    return ["Behaviour on inputs whose answers were never shown. " + "; ".join(parts) + "."], meaningful


def _places(located: "pd.DataFrame", group: str, threshold: float) -> str:
    chosen = located[(located["subset"] == "correct") & (located["group"] == group)]

    def block(measure: str, variable: str, role: str, words: str) -> str:
        rows = chosen[(chosen["measure"] == measure) & (chosen["variable"] == variable) & (chosen["role"] == role)]
        if rows.empty or rows["layer"].isna().any():
            return "nowhere (not found)"
        row = rows.iloc[0]
        interval = "" if row["lower"] != row["lower"] else f" [{row['lower']:.0f}, {row['upper']:.0f}]"
        return f"{words} block {row['layer']:.0f}{interval}"

    pairs = chosen[chosen["measure"] == "patching"].groupby("variable")["n"].first()
    counts = ", ".join(f"{n} pairs with the {swap} swapped" for swap, n in pairs.items())
    return (
        f"{group}, only calls answered correctly ({counts or 'no pairs'}; threshold {threshold}). The program matters "
        f"at its name {block('patching', 'program', 'name', 'up to the input of')} and is carried by the answer "
        f"position {block('patching', 'program', 'answer', 'from the input of')}; the input matters at its own place "
        f"{block('patching', 'input', 'input', 'up to the input of')} and is carried by the answer position "
        f"{block('patching', 'input', 'answer', 'from the input of')}. At the answer position a linear probe reads the "
        f"first step's operation {block('probing', 'op_1', 'answer', 'after')}, the intermediate state "
        f"{block('probing', 'state_1', 'answer', 'after')} and the output "
        f"{block('probing', 'output', 'answer', 'after')}."
    )


def _carried(transfer: "pd.DataFrame", group: str, threshold: float) -> str:
    """What the transfer map shows of programs of each number of steps."""
    chosen = transfer[(transfer["subset"] == "correct") & (transfer["group"] == group)]
    if chosen.empty:
        return f"{group}, transfer map: there is none (no pair that tells the hypotheses apart and is answered right)."
    parts = []
    for steps, table in chosen.groupby("steps"):
        stream = table[(table["run"] == "patched") & (table["site"] == "resid_pre")]

        def block(role: str, hypothesis: str, last: bool, stream=stream) -> str:
            rows = stream[(stream["role"] == role) & (stream["hypothesis"] == hypothesis)].sort_values("layer")
            rows = rows[rows["proportion"] >= threshold]
            if rows.empty:
                return "nowhere (not found)"
            row = rows.iloc[-1 if last else 0]
            return f"{'up to' if last else 'from'} the input of block {row['layer']} ({_share(row)})"

        head = f"{steps} step{'s' * (steps != 1)} ({table['n'].max()} pairs of {table['programs'].max()} programs): "
        parts.append(
            f"{head}the name carries the program {block('name', 'program', True)}; the answer position carries the "
            f"input {block('answer', 'input', False)} and everything {block('answer', 'everything', False)}"
            f"{_states(table)}"
        )
    return f"{group}, transfer map, only calls answered correctly. " + ". ".join(parts) + "."


def _states(table: "pd.DataFrame") -> str:
    """Is an intermediate state carried anywhere, more than where random vectors were added?"""
    states = table[table["hypothesis"].str.startswith("state_")]
    if states.empty:
        return ""
    patched, random = (states[states["run"] == run] for run in ("patched", "random"))
    top = patched.loc[patched["proportion"].idxmax()]
    head = f"; a state is carried by at most {_share(top)}, at {top['site']} of layer {top['layer']}, {top['role']}"
    if random.empty:
        return f"{head}, without a control to compare it with"
    most = random.loc[random["upper"].idxmax()]
    beside = f"{head}, where random vectors give up to {_share(most)}"
    if top["lower"] > most["upper"]:
        return f"{beside}: the program is evaluated step by step"
    return f"{beside}: no sign of an evaluation step by step"


def _share(row: "pd.Series") -> str:
    return f"{row['proportion']:.0%} [{row['lower']:.0%}, {row['upper']:.0%}]"


def _difference(table: "pd.DataFrame", what: str, variable: str) -> str:
    chosen = table[table["subset"] == "correct"]
    if chosen.empty:
        return f"No {what} could be compared on calls answered correctly: a group has none."
    differing = chosen[chosen["p_adjusted"] < 0.05]
    head = f"The groups differ in {what} at {len(differing)} of {len(chosen)} places on calls answered correctly"
    if differing.empty:
        return f"{head} (adjusted p < 0.05): no difference was found, which is not to say that there is none."
    top = differing.loc[differing["difference"].abs().idxmax()]
    return (
        f"{head} (adjusted p < 0.05); most at {top['site']} of layer {top['layer']}, {top['role']}, {variable} "
        f"{top[variable]}: with_io {top['mean_with_io']:.2f}, without_io {top['mean_without_io']:.2f}, difference "
        f"{top['difference']:.2f} [{top['lower']:.2f}, {top['upper']:.2f}]. One model: a claim needs several seeds."
    )
