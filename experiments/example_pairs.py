"""Write pairs.jsonl, an example for `pbb-probe patch`: two-step programs that stand in the prompt, called.

    python experiments/example_pairs.py

nano evaluates programs that it has before it, so that this needs no finetuning.
"""

import json
from pathlib import Path
from typing import Any

import pbb_probe as pbb
from pbb_probe.patching.pairs import token_counter
from pbb_probe.patching.transfer_pairs import make_transfer_pairs

N_PAIRS = 128


def prompt(call: dict) -> tuple[str, dict[str, list[int]]]:
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


def main() -> None:
    model = pbb.load_model("nano")
    corpus = pbb.make_corpus(with_io=600, without_io=1)
    pairs = make_transfer_pairs(corpus, model, "with_io", n=20 * N_PAIRS)
    n_tokens = token_counter(model)
    lines = []
    rows = (run.labels[run.labels["steps"] == 2].to_dict("records") for run in (pairs.clean, pairs.corrupted))
    for clean, corrupted in zip(*rows, strict=True):
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
        lines.append(json.dumps(line))
    out = Path(__file__).with_name("pairs.jsonl")
    out.write_text("\n".join(lines[:N_PAIRS]) + "\n")
    print(f"{min(len(lines), N_PAIRS)} pairs: {out}")


if __name__ == "__main__":
    main()
