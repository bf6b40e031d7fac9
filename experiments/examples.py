"""Write pairs.jsonl and prompts.jsonl, examples for `pbb-probe patch` and `pbb-probe probe`.

    python experiments/examples.py

Both are of two-step programs that stand in the prompt and are called.

nano evaluates programs that it has before it, so that this needs no finetuning.
"""

import json
from pathlib import Path
from typing import Any

import pbb_probe as pbb
from pbb_probe.patching.pairs import token_counter
from pbb_probe.patching.transfer_pairs import make_transfer_pairs

N_PAIRS = 128
N_PROMPTS = 400
LABELS = ("program", "input", "op_1", "constant_1", "state_1", "op_2", "constant_2", "output")


def prompt(call: dict[str, Any]) -> tuple[str, dict[str, list[int]]]:
    """The code and the call behind it, and the characters of the roles."""
    code = f"define {call['program']} :\n{call['source']}\n"
    start, middle = (code.index(f"\n{line}\n") + 1 for line in call["source"].split("\n")[1:])
    name = len(code) + call["prompt"].index(call["program"])
    value = len(code) + call["prompt"].index(call["call"], name - len(code) + len(call["program"]))
    return code + call["prompt"], {
        "step_1": [start, middle - 1],
        "step_2": [middle, len(code) - 1],
        "name": [name, name + len(call["program"])],
        "input": [value, value + len(call["call"])],
    }


def write(name: str, lines: list[dict[str, Any]]) -> None:
    out = Path(__file__).with_name(name)
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines)} lines: {out}")


def pairs() -> list[dict[str, Any]]:
    """Pairs of calls in which all hypotheses of the transfer map predict different answers."""
    model = pbb.load_model("nano")
    corpus = pbb.make_corpus(with_io=600, without_io=1)
    drawn = make_transfer_pairs(corpus, model, "with_io", n=20 * N_PAIRS)
    n_tokens = token_counter(model)
    lines = []
    sides = (side.labels[side.labels["steps"] == 2] for side in (drawn.clean, drawn.corrupted))
    for clean, corrupted in zip(*(calls.to_dict("records") for calls in sides), strict=True):
        first, second = prompt(clean), prompt(corrupted)
        if len({tuple(n_tokens(text[:end]) for _, end in roles.values()) for text, roles in (first, second)}) > 1:
            continue
        line: dict[str, Any] = {
            "clean": first[0],
            "corrupted": second[0],
            "answers": [clean["output"], corrupted["output"]],
        }
        line["roles"] = {role: [first[1][role], second[1][role]] for role in first[1]}
        line |= {name: [clean[name], corrupted[name]] for name in ("program", "source", "call", "steps")}
        lines.append(line)
    return lines[:N_PAIRS]


def prompts() -> list[dict[str, Any]]:
    """Calls of other programs, with what the programs do on the way as labels."""
    corpus = pbb.make_corpus(with_io=N_PROMPTS // 2, without_io=1, shapes=("two_steps",), seed=1)
    lines = []
    for call in corpus.calls(group="with_io", n=N_PROMPTS).to_dict("records"):
        text, roles = prompt(call)
        lines.append({"text": text, "roles": roles, **{name: call[name] for name in LABELS}})
    return lines


if __name__ == "__main__":
    write("pairs.jsonl", pairs())
    write("prompts.jsonl", prompts())
