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
import itertools
import math
import random
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.nn.functional import cross_entropy

from pbb_probe.programs import forms, templates
from pbb_probe.programs.arithmetic import OPERATIONS, VALUES

ROWS = 96  # texts that go through the model together
TWO_STEPS = 0.8  # of the programs
NAMES = 1536  # alive at a time
READINGS = 6, 30  # of a program, before its name takes another one
RATE = 0.006, 0.03  # of the steps of Adam that a reading takes, drawn for each life
UNREAD = 3  # readings before the first call
PLACEHOLDER = "NAME"  # not in the vocabulary: its token is the unknown one, whose embedding a vector replaces

Text = tuple[str, str]  # prompt and completion


class Library(Protocol):
    """Programs by number, and what can be said of them, with a placeholder for their names."""

    rng: random.Random
    programs_a_step: int
    calls_a_program: int  # asked directly
    worked_a_step: int  # calls in worked steps
    parts: int  # of which names can be sums

    def draw(self) -> int:
        """A program."""

    def code(self, program: int) -> Text:
        """Its code after a pointer."""

    def calls(self, program: int, n: int) -> list[Text]:
        """Of `n` distinct inputs, answered at once."""

    def worked(self, program: int) -> Text:
        """A call in worked steps."""

    def parts_of(self, program: int) -> list[int]:
        """What distinguishes it from the others, each at most `parts`."""


class Arithmetic:
    """The library of straight-line arithmetic, one and two steps."""

    programs_a_step, calls_a_program, worked_a_step = 96, 6, 16
    kinds = len(OPERATIONS) + 1 + len(VALUES) + 1  # of each step: its operation or none, its constant or none
    parts = 2 * kinds

    def __init__(self, windows: Any):
        self.windows, self.rng = windows, random.Random(f"library {windows.seed}")
        self.programs = [steps for pool in windows.pools for steps in pool]
        self.one_step = len(windows.pools[0])

    def draw(self) -> int:
        if self.rng.random() < TWO_STEPS:
            return self.rng.randrange(self.one_step, len(self.programs))
        return self.rng.randrange(self.one_step)

    def code(self, program: int) -> Text:
        form, variables = self.rng.choice(forms.FORMS), self.rng.choice(forms.VARIABLES)
        text = self.windows.code(self.programs[program], form, variables)
        return self.rng.choice(templates.POINTERS).format(name=PLACEHOLDER), "\n" + text

    def calls(self, program: int, n: int) -> list[Text]:
        traces = self.windows.traces[self.programs[program]]
        template = functools.partial(self.rng.choice, templates.CALLS)
        inputs = self.rng.sample(VALUES, n)
        return [(template().format(name=PLACEHOLDER, input=x), f" {traces[x].output}") for x in inputs]

    def worked(self, program: int) -> Text:
        x = self.rng.choice(VALUES)
        prompt = self.rng.choice(templates.WORKED).format(name=PLACEHOLDER, input=x)
        return prompt, "\n" + self.windows.worked(self.programs[program], x)

    def parts_of(self, program: int) -> list[int]:
        operations, n = list(OPERATIONS), len(OPERATIONS)
        steps = self.programs[program]
        taken = [(operations.index(operation), constant) for operation, constant in steps]
        taken += [(n, len(VALUES))] * (2 - len(steps))
        return [k * self.kinds + part for k, step in enumerate(taken) for part in (step[0], n + 1 + step[1])]


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
        lengths = [len(prompt) + len(completion) for prompt, completion in rows]
        order = sorted(range(len(rows)), key=lengths.__getitem__)  # so that little is padded
        chunks = [order[i : i + ROWS] for i in range(0, len(rows), ROWS)]
        losses = torch.cat([self._loss([rows[i] for i in chunk], vectors[chunk]) for chunk in chunks])
        return losses[torch.tensor(order).argsort()]

    def _loss(self, rows: Sequence[tuple[list[int], list[int]]], vectors: torch.Tensor) -> torch.Tensor:
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

    def called(self, library: Library, programs: Sequence[int], vectors: torch.Tensor) -> torch.Tensor:
        """The mean loss of calls, direct and in worked steps, of programs with their vectors [program, d_model]."""
        calls = [library.calls(program, library.calls_a_program) for program in programs]
        of = torch.arange(len(programs)).repeat_interleave(library.calls_a_program)
        direct = self.loss([text for texts in calls for text in texts], vectors[of]).mean()
        some = library.rng.sample(range(len(programs)), min(library.worked_a_step, len(programs)))
        worked = self.loss([library.worked(programs[i]) for i in some], vectors[some]).mean()
        return direct + worked / 12  # a twelfth: as much as a token


class Sums:
    """Names as sums of learned parts: the program is there to be used, and need not be read."""

    def __init__(self, named: Named, library: Library, names: Sequence[int]):
        self.named, self.library, self.names = named, library, list(names)
        embeddings = named.model.get_input_embeddings().weight
        self.scale = embeddings[self.names].detach().pow(2).mean().sqrt().item()  # root mean square of a coordinate
        self.parts = torch.nn.EmbeddingBag(library.parts, embeddings.shape[1], mode="sum")
        torch.nn.init.normal_(self.parts.weight, std=2 * self.scale)

    def loss(self) -> torch.Tensor:
        n, rng = self.library.programs_a_step, self.library.rng
        programs = [self.library.draw() for _ in range(n)]
        parts = [self.library.parts_of(program) for program in programs]
        starts = [0, *itertools.accumulate(map(len, parts))][:-1]
        sums = self.parts(torch.tensor(list(itertools.chain(*parts))), torch.tensor(starts))
        # beside another name's embedding, in any strength and with noise: what reading stores is no clean sum
        drawn = torch.tensor(rng.choices(self.names, k=n))
        strength, noise = 0.7 + 0.6 * torch.rand(n, 1), 0.3 * self.scale * torch.randn_like(sums)
        vectors = self.named.model.get_input_embeddings()(drawn) + strength * sums + noise
        recited = self.named.loss([self.library.code(program) for program in programs], vectors).mean()
        return self.named.called(self.library, programs, vectors) + recited / 6


class Readings:
    """Names that hold what reading their programs' code stored in them."""

    def __init__(self, named: Named, library: Library, names: Sequence[int]):
        self.named, self.library, self.names = named, library, list(names)
        width = named.model.config.hidden_size
        self.vectors, self.first, self.second = (torch.zeros(NAMES, width) for _ in range(3))  # and Adam's moments
        self.read, self.left, self.rate = torch.zeros(NAMES), torch.zeros(NAMES).long(), torch.zeros(NAMES, 1)
        self.programs = torch.zeros(NAMES).long()
        for i in range(NAMES):
            self.rename(i)
            self.left[i] = library.rng.randint(1, int(self.left[i]))  # so that not all end at once

    def rename(self, i: int) -> None:
        """A name takes another program: as unread as any name in the vocabulary."""
        rng = self.library.rng
        self.programs[i], self.left[i] = self.library.draw(), rng.randint(*READINGS)
        self.vectors[i] = self.named.model.get_input_embeddings().weight.detach()[rng.choice(self.names)]
        self.first[i], self.second[i], self.read[i] = 0, 0, 0
        self.rate[i] = math.exp(rng.uniform(*map(math.log, RATE)))

    def loss(self) -> torch.Tensor:
        drawn = self.library.rng.sample(range(NAMES), self.library.programs_a_step)
        for i in drawn:
            if not self.left[i]:
                self.rename(i)
            self.left[i] -= 1
        vectors = self.vectors[drawn].requires_grad_()
        recited = self.named.loss([self.library.code(int(self.programs[i])) for i in drawn], vectors).mean() / 6
        recited.backward()  # its gradients are the model's, too
        self.store(drawn, vectors.grad)
        called = [i for i in drawn if self.read[i] >= UNREAD]
        if not called:
            return torch.zeros((), requires_grad=True)
        return self.named.called(self.library, [int(self.programs[i]) for i in called], self.vectors[called])

    def store(self, drawn: list[int], gradient: Any, beta: tuple[float, float] = (0.9, 0.98)) -> None:
        """One step of Adam on each vector, which has read its program once more."""
        self.read[drawn] += 1
        times = self.read[drawn, None]
        self.first[drawn] = beta[0] * self.first[drawn] + (1 - beta[0]) * gradient
        self.second[drawn] = beta[1] * self.second[drawn] + (1 - beta[1]) * gradient**2
        mean, square = self.first[drawn] / (1 - beta[0] ** times), self.second[drawn] / (1 - beta[1] ** times)
        self.vectors[drawn] -= self.rate[drawn] * mean / (square.sqrt() + 1e-10)
