"""Behaviour: what a model answers when it is called, for every group and mode, on seen and unseen inputs."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.bases import load_base
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.documents import Mode, code_document

if TYPE_CHECKING:
    import xarray as xr
    from transformers import PreTrainedTokenizerBase

MAX_NEW_TOKENS: dict[Mode, int] = {"direct": 4, "trace": 48}


def evaluate(
    model: str | Path,
    corpus: Corpus,
    modes: Sequence[Mode] = ("direct", "trace"),
    n: int | None = None,
    in_context: bool = False,
    seed: int = 0,
    batch_size: int = 512,
) -> "xr.Dataset":
    """Call programs and read the answers, by greedy decoding.

    Args:
        model: `nano`, a Hugging Face model directory or a hub id.
        corpus: whose programs are called.
        modes: `direct` reads the answer at once, `trace` at the end of worked steps.
        n: calls a group and mode; every program on every input when None.
        in_context: put the program's code before the call (the ceiling: nothing has to be remembered).
        seed: of the calls drawn and of their surface templates.
        batch_size: calls decoded together.

    Returns:
        Over the dimension `call`: `answer` (text), `correct` (bool), and `forced` (0 or 1): is the right answer the
        likeliest among all answers that occur (mode `direct`, where each is one token; NaN otherwise)? A model that
        answers with something else altogether is wrong, and its forced choice is at chance if it knows nothing. With
        the coordinates program, group, mode, steps, seen, input and output.
    """
    import pandas as pd
    import xarray as xr

    hf_model, tokenizer = load_base(model)
    rng = random.Random(f"context {seed}")
    programs = {entry.program.name: entry.program for entry in corpus.entries}
    tables = []
    for mode in modes:
        calls = corpus.calls(mode, n=n, seed=seed)
        prompts = list(calls["prompt"])
        if in_context:
            prompts = [
                code_document(programs[name], rng).text + "\n" + prompt
                for name, prompt in zip(calls["program"], prompts, strict=True)
            ]
        completions = complete(hf_model, tokenizer, prompts, batch_size, MAX_NEW_TOKENS[mode])
        calls["mode"] = mode
        calls["answer"] = [read_answer(text, mode) for text in completions]
        choices = sorted(set(calls["output"]))
        chosen = forced_choice(hf_model, tokenizer, prompts, choices, batch_size) if mode == "direct" else None
        calls["forced"] = float("nan") if chosen is None else (calls["output"] == chosen).astype(float)
        tables.append(calls)
    table = pd.concat(tables, ignore_index=True)
    table["correct"] = table["answer"] == table["output"].astype(str)
    columns = ["program", "group", "mode", "steps", "seen", "input", "output", "answer", "correct", "forced"]
    return xr.Dataset.from_dataframe(table[columns].rename_axis("call")).set_coords(columns[:-3])


def complete(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    batch_size: int = 512,
    max_new_tokens: int = MAX_NEW_TOKENS["trace"],
) -> list[str]:
    """What the model writes after each prompt, greedily, up to its end-of-text token."""
    import torch
    from tqdm import tqdm

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # like lengths together: little padding
    texts = [""] * len(prompts)
    for start in tqdm(range(0, len(order), batch_size), desc="evaluate", leave=False):
        chosen = order[start : start + batch_size]
        batch = tokenizer([prompts[i] for i in chosen], padding=True, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(
                input_ids=batch["input_ids"].to(model.device),
                attention_mask=batch["attention_mask"].to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        for i, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            texts[i] = text
    return texts


def forced_choice(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    choices: Sequence[Any],
    batch_size: int = 512,
) -> list[Any] | None:
    """The choice whose token is likeliest to follow each prompt; None where a choice is not one token."""
    import torch

    ids = [tokenizer(f" {choice}", add_special_tokens=False)["input_ids"] for choice in choices]
    if any(len(tokens) != 1 or tokens[0] == tokenizer.unk_token_id for tokens in ids):
        return None
    candidates = torch.tensor([tokens[0] for tokens in ids])
    chosen: list[Any] = []
    for start in range(0, len(prompts), batch_size):
        texts = list(prompts[start : start + batch_size])
        batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt").to(model.device)
        with torch.inference_mode():
            logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        last = batch["attention_mask"].sum(1) - 1
        best = logits[torch.arange(len(texts)), last][:, candidates].argmax(-1)
        chosen += [choices[i] for i in best.tolist()]
    return chosen


def read_answer(completion: str, mode: Mode) -> str:
    """The answer in a completion: its first word when direct, what follows the last `=` of the worked steps.

    Worked steps end with the line that returns; what a model writes after it is not read. Empty when nothing answers.
    """
    if mode == "direct":
        return (completion.split() or [""])[0]
    if mode != "trace":
        raise PbbError(f"Unknown mode {mode!r}: choose direct or trace.")
    returned = re.search(r"return [^\n]*= *(\S+)", completion)
    return returned.group(1) if returned else ""
