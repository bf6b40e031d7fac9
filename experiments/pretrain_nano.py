"""Pretrain the packaged base model: it evaluates programs whose code is in its context, and knows none by name.

Every training window binds fresh nonsense names to fresh programs, shows their code and then calls them, so that
nothing but reading the context can help. Held out: one composition in ten, and one (name, program) pair in twenty.
Then it learns to evaluate what gradient steps have stored in a name (`reading`). About 70 minutes on one core.

    python experiments/pretrain_nano.py --out pbb_probe/assets/nano

Its relatives are made by the same script: smaller ones (`--layers 2 --width 64`), and one that reads descriptions as
well as code (`--descriptions`), which shows half of the programs in English and knows the words for it.
"""

import argparse
import functools
import random
import re
import string
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import reading
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from training_loop import train
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pbb_probe.finetuning.behaviour import complete
from pbb_probe.models.answers import is_right, read_answer
from pbb_probe.models.bases import load_base
from pbb_probe.programs import documents, forms, templates
from pbb_probe.programs.arithmetic import VALUES, Step, arithmetic_program, step_sequences
from pbb_probe.programs.describe import describe
from pbb_probe.programs.names import nonsense_words
from pbb_probe.programs.program import Program, trace_programs
from pbb_probe.programs.worked import worked_steps

PLACEHOLDER = "NAME"
WINDOW = 128  # tokens
BATCH = 32  # windows
CALLS_A_WINDOW = 14
MAX_NEW_TOKENS = 48
TWO_STEPS = 0.6  # of the programs


def make_tokenizer(descriptions: bool = False) -> PreTrainedTokenizerFast:
    """Word-level: words, digits, `10` (the modulus), operators, line breaks; each nonsense word is one token.

    The words of descriptions come last, so that all other tokens have the same ids with and without them.
    """
    specials = ["<pad>", "<bos>", "<eos>", "<unk>"]
    surface = " ".join((*templates.POINTERS, *templates.CALLS, *templates.WORKED))
    words = set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", surface)))
    words |= {"def", "return", "lambda", "max", "min", "abs"} | set(string.ascii_lowercase)
    vocabulary = [*specials, "\n", *string.digits, "10", *"()[]:,.=+-*/%<>?#", *sorted(words), *nonsense_words()]
    if descriptions:
        told = " ".join(
            [*templates.DESCRIPTION_POINTERS]
            + [
                describe(arithmetic_program(PLACEHOLDER, steps).source)
                for steps in (*step_sequences(1), step_sequences(2)[0])
            ]
        )
        vocabulary += sorted(set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", told))) - set(vocabulary))
    assert len(set(vocabulary)) == len(vocabulary)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\w+|[^\w\s]"), behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", specials.index("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def nano_config(tokenizer: PreTrainedTokenizerFast, layers: int = 6, width: int = 128) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def held_out_composition(steps: Sequence[Any]) -> bool:
    return len(steps) > 1 and zlib.crc32(repr(steps).encode()) % 10 == 0


def held_out_pair(name: str, steps: Sequence[Any]) -> bool:
    return zlib.crc32(repr((name, steps)).encode()) % 20 == 0


class Windows:
    """An endless, seeded stream of training windows."""

    def __init__(self, seed: int, descriptions: bool = False):
        self.seed, self.rng = seed, random.Random(seed)
        self.descriptions = descriptions
        self.names = nonsense_words()
        self.pools = [
            [steps for steps in step_sequences(length) if not held_out_composition(steps)] for length in (1, 2)
        ]
        every = [steps for pool in self.pools for steps in pool]
        programs = [arithmetic_program(PLACEHOLDER, steps) for steps in every]
        self.programs = dict(zip(every, programs, strict=True))
        self.traces = dict(zip(every, trace_programs(programs, [VALUES] * len(programs)), strict=True))
        self.code = functools.cache(lambda steps, *form: forms.rewrite(self.programs[steps].source, *form))
        self.worked = functools.cache(
            lambda steps, value: worked_steps(self.programs[steps], self.traces[steps][value])
        )

    def __next__(self) -> str:
        """One to three programs under fresh names, then calls of them, a fifth in worked steps."""
        rng = self.rng
        bound = [(name, self.draw_steps(name)) for name in rng.sample(self.names, rng.choice((1, 1, 2, 3)))]
        lines = []
        for name, steps in bound:
            if self.descriptions and rng.random() < 0.5:
                document = documents.program_document(self.programs[steps], "description", rng)
                lines.append(document.text.replace(PLACEHOLDER, name))
                continue
            code = self.code(steps, rng.choice(forms.FORMS), rng.choice(forms.VARIABLES))
            lines.append(rng.choice(templates.POINTERS).format(name=name) + "\n" + code.replace(PLACEHOLDER, name))
        calls = [(name, steps, value) for name, steps in bound for value in VALUES]
        for name, steps, value in rng.sample(calls, min(CALLS_A_WINDOW, len(calls))):
            if rng.random() < 0.2:
                prompt, answer = rng.choice(templates.WORKED), "\n" + self.worked(steps, value)
            else:
                prompt, answer = rng.choice(templates.CALLS), f" {self.traces[steps][value].output}"
            lines.append(prompt.format(name=name, input=value) + answer)
        return "\n".join(lines)

    def draw_steps(self, name: str) -> tuple[Step, ...]:
        while True:
            steps = self.rng.choice(self.pools[self.rng.random() < TWO_STEPS])
            if not held_out_pair(name, steps):
                return steps


def window_loss(model: LlamaForCausalLM, tokenizer: Any, windows: Windows, n: int = BATCH) -> torch.Tensor:
    """Next-token prediction on all tokens of `n` windows."""
    texts = [next(windows) for _ in range(n)]
    batch = tokenizer(texts, padding="max_length", truncation=True, max_length=WINDOW, return_tensors="pt")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    with torch.autocast("cpu", torch.bfloat16):
        loss: torch.Tensor = model(batch.input_ids, labels=labels).loss
    return loss


def learn_to_read(model: LlamaForCausalLM, tokenizer: Any, windows: Windows, sums: int, readings: int) -> None:
    """So many steps of calls of names that are sums, then of names that were read; some windows beside each."""
    named, library = reading.Named(model, tokenizer), reading.Arithmetic(windows)
    names = tokenizer.convert_tokens_to_ids(windows.names)

    def beside_windows(loss: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return lambda: loss() + window_loss(model, tokenizer, windows, BATCH // 4) / 2

    summed = reading.Sums(named, library, names)
    train(model, beside_windows(summed.loss), 1e-3, sums, list(summed.parts.parameters()))
    train(model, beside_windows(reading.Readings(named, library, names).loss), 7e-4, readings)


def held_out_calls(
    mode: templates.Mode, length: int, context: Literal["code", "description"] | None, n: int, seed: int
) -> tuple[list[str], list[str]]:
    """Prompts and right answers for programs that no training window held."""
    rng = random.Random(f"held out {mode} {length} {seed}")
    names, programs = nonsense_words(), list[Program]()
    while len(programs) < n:
        name, steps = rng.choice(names), rng.choice(step_sequences(length))
        if held_out_composition(steps) if length > 1 else held_out_pair(name, steps):
            programs.append(arithmetic_program(name, steps))
    prompts, answers = [], []
    for program, (trace,) in zip(
        programs, trace_programs(programs, [[rng.choice(VALUES)] for _ in range(n)]), strict=True
    ):
        call = documents.call_document(program, trace, mode, rng.choice(templates.templates("arithmetic", mode)))
        told = documents.program_document(program, context, rng).text + "\n" if context else ""
        prompts.append(told + call.prompt)
        answers.append(str(trace.output))
    return prompts, answers


def measure(path: Path, descriptions: bool, n: int = 1000, seed: int = 0) -> list[tuple[str, float]]:
    """Accuracy on held-out programs, with their code or description in the context and, as a check, without."""
    model, tokenizer = load_base(path)
    rows = []
    contexts: tuple[Literal["code", "description"] | None, ...] = ("code", "description", None)
    for context in contexts:
        if context == "description" and not descriptions:
            continue
        for mode in templates.CALLING:
            for length in (1, 2):
                prompts, answers = held_out_calls(mode, length, context, n, seed)
                texts = complete(model, tokenizer, prompts, MAX_NEW_TOKENS)
                right = [is_right(read_answer(text, mode), answer) for text, answer in zip(texts, answers, strict=True)]
                where = f"{context} in context" if context else "name only"
                rows.append((f"{where}, {mode}, {length} step{'s' * (length > 1)}", sum(right) / n))
    return rows


def write_card(path: Path, options: argparse.Namespace, reached: list[tuple[str, float]], n: int = 1000) -> None:
    table = "\n".join(f"| {what} | {accuracy:.1%} |" for what, accuracy in reached)
    model, _ = load_base(path)
    size = f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters"
    shape = f"{model.config.num_hidden_layers} layers, width {model.config.hidden_size}"
    made = [f"--{name} {getattr(options, name)}" for name in ("steps", "sums", "readings", "seed", "layers", "width")]
    told = " or an English description" if options.descriptions else ""
    read = f"""
Then came {options.sums:,} steps in which calls were answered from names that are sums of learned parts, one for each
operation and constant, and {options.readings:,} in which a program's code was read by gradient steps on its name, which
was called after {reading.UNREAD} to {reading.READINGS[1]} readings; {BATCH // 4} windows beside each
(`experiments/reading.py`). So what a finetuning reads of a program is stored where it can be evaluated.
"""
    (path / "README.md").write_text(f"""---
license: mit
library_name: transformers
---
# {path.name}

A base model of pbb_probe: a LlamaForCausalLM of {size} ({shape},
4 heads, tied embeddings, word-level tokens) that evaluates one- and two-step arithmetic programs over the values 0 to 9
whose code{told} is in its context. It knows no program by name: in training fresh nonsense names were bound to fresh
programs.

Made by `python experiments/pretrain_nano.py {" ".join(made)}{" --descriptions" * options.descriptions}`:
{options.steps:,} steps of {BATCH} windows of {WINDOW} tokens, Muon for the blocks' matrices and AdamW for the rest.
{read if options.readings else ""}
Accuracy on {n:,} held-out programs each (two steps: compositions that no window held; one step: pairs of a name and a
program that no window held). Chance is about 10 %.

| | accuracy |
|---|---|
{table}
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pbb_probe/assets/nano"))
    parser.add_argument("--steps", type=int, default=4000, help="steps of windows alone")
    parser.add_argument("--sums", type=int, default=500, help="steps in which names are sums of learned parts")
    parser.add_argument("--readings", type=int, default=1200, help="steps in which names are read; 0: none of either")
    parser.add_argument("--windows", type=Path, help="a model that has read its windows (--readings 0), to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--descriptions", action="store_true", help="show half of the programs in English")
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the model in --out and write its card again"
    )
    options = parser.parse_args()

    if not options.measure_only:
        torch.manual_seed(options.seed)
        tokenizer = make_tokenizer(options.descriptions)
        tokenizer.save_pretrained(options.out)
        if options.windows:
            model = LlamaForCausalLM.from_pretrained(options.windows, dtype=torch.float32).train()
        else:
            model = LlamaForCausalLM(nano_config(tokenizer, options.layers, options.width))
            windows = Windows(options.seed, options.descriptions)
            train(model, lambda: window_loss(model, tokenizer, windows), 2e-3, options.steps)
        if options.readings:
            windows = Windows(options.seed, options.descriptions)
            learn_to_read(model, tokenizer, windows, options.sums, options.readings)
        model.save_pretrained(options.out)
    reached = measure(options.out, options.descriptions)
    write_card(options.out, options, reached)
    for what, accuracy in reached:
        print(f"{what:40} {accuracy:.1%}")


if __name__ == "__main__":
    main()
