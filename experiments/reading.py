"""Reading by gradient steps: programs are stored in their names, and called from there.

Windows that show code and calls side by side teach a model to look code up, not to keep it: finetuned to recite a
thousand programs, such a model stores them where its evaluation of code does not look. So pretraining goes on with
names that are vectors outside of the vocabulary, each with the program it stands for.

First a vector is the sum of learned parts, one for each operation and constant, and calls are answered from it
(`Sums`). Then nothing is learned of it but what reading stores there (`Readings`): each reading of a program's code is
one step of Adam on its name's vector, and from the third on the program is called. Calls never change a vector, so what
answers them was read and not induced from examples. After some readings the name takes another program.
"""

import functools
import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from pbb_probe.programs import forms, templates
from pbb_probe.programs.arithmetic import OPERATIONS, VALUES, Step

PROGRAMS = 96  # a step
CALLS = 6  # of each of them, asked directly
WORKED = 16  # calls a step in worked steps
TWO_STEPS = 0.8  # of the programs
NAMES = 1536  # alive at a time
READINGS = 6, 30  # of a program, before its name takes another one
RATE = 0.006, 0.03  # of the steps of Adam that a reading takes, drawn for each life
UNREAD = 3  # readings before the first call
PLACEHOLDER = "NAME"  # not in the vocabulary: its token is the unknown one, whose embedding a vector replaces

Steps = tuple[Step, ...]
Text = tuple[str, str]  # prompt and completion


class Library:
    """Programs and what can be said of them, with a placeholder for their names."""

    def __init__(self, windows: Any):
        self.windows, self.rng = windows, random.Random(f"library {windows.seed}")

    def draw(self) -> Steps:
        steps: Steps = self.rng.choice(self.windows.pools[self.rng.random() < TWO_STEPS])
        return steps

    def code(self, steps: Steps) -> Text:
        text = self.windows.code(steps, self.rng.choice(forms.FORMS), self.rng.choice(forms.VARIABLES))
        return self.rng.choice(templates.POINTERS).format(name=PLACEHOLDER), "\n" + text

    def calls(self, steps: Steps, n: int) -> list[Text]:
        """Of `n` distinct inputs, answered at once."""
        template, traces = functools.partial(self.rng.choice, templates.CALLS), self.windows.traces[steps]
        inputs = self.rng.sample(VALUES, n)
        return [(template().format(name=PLACEHOLDER, input=x), f" {traces[x].output}") for x in inputs]

    def worked(self, steps: Steps) -> Text:
        x = self.rng.choice(VALUES)
        prompt = self.rng.choice(templates.WORKED).format(name=PLACEHOLDER, input=x)
        return prompt, "\n" + self.windows.worked(steps, x)


class Named:
    """A model that reads texts in which vectors stand in place of the placeholder."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.unknown = model, tokenizer.unk_token_id
        self.start, self.end = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
        self.ids = functools.cache(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])

    def loss(self, texts: Sequence[Text], vectors: torch.Tensor) -> torch.Tensor:
        """The summed loss of each completion [text], of texts with a vector each [text, d_model].

        A name within a completion is not scored: the placeholder is no token to be said.
        """
        rows = [(self.start + self.ids(prompt), self.ids(completion) + self.end) for prompt, completion in texts]
        width = max(len(prompt) + len(completion) for prompt, completion in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        scored = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, (prompt, completion) in enumerate(rows):
            ids[i, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
            scored[i, len(prompt) : len(prompt) + len(completion)] = True
        named = ids == self.unknown
        rows_scored = (scored & ~named)[:, 1:]
        with torch.autocast("cpu", torch.bfloat16):
            embedded = torch.where(named[..., None], vectors[:, None], self.model.get_input_embeddings()(ids))
            states = self.model.model(inputs_embeds=embedded).last_hidden_state[:, :-1]
            logits = self.model.lm_head(states[rows_scored])
        losses = cross_entropy(logits.float(), ids[:, 1:][rows_scored], reduction="none")
        return torch.zeros(len(rows)).index_add(0, rows_scored.nonzero()[:, 0], losses)

    def called(self, library: Library, programs: Sequence[Steps], vectors: torch.Tensor) -> torch.Tensor:
        """The mean loss of calls, direct and in worked steps, of programs with their vectors [program, d_model]."""
        calls = [library.calls(steps, CALLS) for steps in programs]
        of = torch.arange(len(programs)).repeat_interleave(CALLS)
        direct = self.loss([text for texts in calls for text in texts], vectors[of]).mean()
        some = library.rng.sample(range(len(programs)), min(WORKED, len(programs)))
        worked = self.loss([library.worked(programs[i]) for i in some], vectors[some]).mean()
        return direct + worked / 12  # a twelfth: as much as a token


class Sums:
    """Names as sums of learned parts: the program is there to be used, and need not be read."""

    def __init__(self, named: Named, library: Library, names: Sequence[int]):
        self.named, self.library, self.names = named, library, list(names)
        self.operations = list(OPERATIONS)
        embeddings = named.model.get_input_embeddings().weight
        self.scale = embeddings[self.names].detach().pow(2).mean().sqrt().item()  # root mean square of a coordinate
        # of each step: its operation or none, its constant or none
        self.kinds = len(OPERATIONS) + 1 + len(VALUES) + 1
        self.parts = torch.nn.EmbeddingBag(2 * self.kinds, embeddings.shape[1], mode="sum")
        torch.nn.init.normal_(self.parts.weight, std=2 * self.scale)

    def loss(self) -> torch.Tensor:
        programs = [self.library.draw() for _ in range(PROGRAMS)]
        parts = self.parts(torch.tensor([self.indices(steps) for steps in programs]))
        # beside another name's embedding, in any strength and with noise: what reading stores is no clean sum
        drawn = torch.tensor(self.library.rng.choices(self.names, k=PROGRAMS))
        strength, noise = 0.7 + 0.6 * torch.rand(PROGRAMS, 1), 0.3 * self.scale * torch.randn_like(parts)
        vectors = self.named.model.get_input_embeddings()(drawn) + strength * parts + noise
        recited = self.named.loss([self.library.code(steps) for steps in programs], vectors).mean()
        return self.named.called(self.library, programs, vectors) + recited / 6

    def indices(self, steps: Steps) -> list[int]:
        n = len(self.operations)
        taken = [(self.operations.index(operation), constant) for operation, constant in steps]
        taken += [(n, len(VALUES))] * (2 - len(steps))
        return [k * self.kinds + part for k, step in enumerate(taken) for part in (step[0], n + 1 + step[1])]


class Readings:
    """Names that hold what reading their programs' code stored in them."""

    def __init__(self, named: Named, library: Library, names: Sequence[int]):
        self.named, self.library, self.names = named, library, list(names)
        width = named.model.config.hidden_size
        self.vectors, self.first, self.second = (torch.zeros(NAMES, width) for _ in range(3))  # and Adam's moments
        self.read, self.left, self.rate = torch.zeros(NAMES), [0] * NAMES, torch.zeros(NAMES, 1)
        self.programs: list[Steps] = [()] * NAMES
        for i in range(NAMES):
            self.rename(i)
            self.left[i] = library.rng.randint(1, self.left[i])  # so that not all end at once

    def rename(self, i: int) -> None:
        """A name takes another program: as unread as any name in the vocabulary."""
        rng = self.library.rng
        self.programs[i], self.left[i] = self.library.draw(), rng.randint(*READINGS)
        self.vectors[i] = self.named.model.get_input_embeddings().weight.detach()[rng.choice(self.names)]
        self.first[i], self.second[i], self.read[i] = 0, 0, 0
        self.rate[i] = math.exp(rng.uniform(*map(math.log, RATE)))

    def loss(self) -> torch.Tensor:
        drawn = self.library.rng.sample(range(NAMES), PROGRAMS)
        for i in drawn:
            if not self.left[i]:
                self.rename(i)
            self.left[i] -= 1
        vectors = self.vectors[drawn].requires_grad_()
        recited = self.named.loss([self.library.code(self.programs[i]) for i in drawn], vectors).mean() / 6
        recited.backward()  # its gradients are the model's, too
        self.store(drawn, vectors.grad)
        called = [i for i in drawn if self.read[i] >= UNREAD]
        if not called:
            return torch.zeros((), requires_grad=True)
        return self.named.called(self.library, [self.programs[i] for i in called], self.vectors[called])

    def store(self, drawn: list[int], gradient: Any, beta: tuple[float, float] = (0.9, 0.98)) -> None:
        """One step of Adam on each vector, which has read its program once more."""
        self.read[drawn] += 1
        times = self.read[drawn, None]
        self.first[drawn] = beta[0] * self.first[drawn] + (1 - beta[0]) * gradient
        self.second[drawn] = beta[1] * self.second[drawn] + (1 - beta[1]) * gradient**2
        mean, square = self.first[drawn] / (1 - beta[0] ** times), self.second[drawn] / (1 - beta[1] ** times)
        self.vectors[drawn] -= self.rate[drawn] * mean / (square.sqrt() + 1e-10)
