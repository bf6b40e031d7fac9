"""Planted truth: a Llama whose weights are set by hand, so that it is known which block does what.

At the answer position attention brings the input in block `arrive` and the program in block `retrieve`; MLPs look up
state k in block `states[k - 1]`, from the state before it and the k-th step, and the output in block `output`.
Whatever else happens there is a decoy: something that has misled a method of locating layers.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from pbb_probe.calibration.circuits import DECOYS, DIFFERENT, Circuit, Decoy, Evaluation, Where, set_circuit, set_words
from pbb_probe.calibration.wiring import IS_NAME, Wiring
from pbb_probe.errors import PbbError
from pbb_probe.programs.arithmetic import VALUES, Step, arithmetic_program, every_step, worth_asking
from pbb_probe.programs.corpus import Corpus, Entry, Group
from pbb_probe.programs.names import PACKAGED, nonsense_words
from pbb_probe.programs.program import trace_programs

if TYPE_CHECKING:
    import pandas as pd
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

KINDS = 12
"""Different steps at each place of a program, few enough that held-out programs are made of those of others."""
SHOWN = 5
"""Inputs of a with_io program whose answers count as shown."""
PLANTED: tuple[Group, ...] = ("with_io", "without_io")
"""The groups of the programs, in turn."""


def planted_model(
    n_layers: int = 6,
    retrieve: int = 1,
    states: Sequence[int] = (3,),
    output: int = 4,
    where: Where = "answer",
    decoys: Sequence[Decoy] = (),
    n_programs: int = 80,
    d_model: int = 256,
    seed: int = 0,
    arrive: int = 0,
    noise: float = 0.0,
) -> "tuple[LlamaForCausalLM, PreTrainedTokenizerBase, Corpus, pd.DataFrame]":
    """A model that answers every call of every program of its corpus (without noise), and which block does what.

    Args:
        n_layers: blocks.
        retrieve: the block whose attention takes the program from its name to the answer position.
        states: the blocks whose MLP writes state 1, state 2, ...; programs have a step more. Empty for one step.
        output: the block whose MLP writes the output.
        where: the name becomes steps at the `answer` position, by the MLP of block `retrieve`, so that the name itself
            says nothing that holds for other programs; or at the `name`, whose embedding is made of steps.
        decoys: any of
            `early_state`: state 1 is also written as soon as it can be, in a direction that nothing reads;
            `early_output`: so is the output, before any state;
            `leftover`: steps stay at the answer position after they were used, where else they are erased;
            `later`: without_io programs do everything from `retrieve` on one block later than with_io programs;
            `lookup`: without_io programs are answered from a table of names and inputs, without steps and states;
            `composed`: the name's MLP in block `retrieve - 1` turns the steps into the table of the whole function,
            before any input is seen, and there are no states;
            `twice`: the block after `states[0]` computes state 1 once more where it is missing, so that taking the
            first away changes nothing.
        n_programs: with_io and without_io in turn.
        d_model: width, of which every feature takes a direction.
        seed: of the basis, the programs and their names.
        arrive: the block whose attention takes the input to the answer position.
        noise: standard deviation of normal noise on what a name holds, in units of a feature, so that the model gets
            some programs wrong, and some more often than others.

    Returns:
        The model in eval mode; its tokenizer, which is nano's; the corpus, whose with_io programs show five of their
        ten inputs; and the truth, a row a group and variable (program, input, state_1, ..., output): `layer`, the
        block that does it, missing where there is no such variable, and how the group's programs are evaluated,
        `evaluation`: step by step (one step where there is but one), compiled, or looked up.

    Raises:
        PbbError: blocks in an order that cannot be, a decoy that is unknown or finds no block, or a `d_model` that is
            too small.

    Example:
        >>> import pbb_probe as pbb
        >>> model, tokenizer, corpus, truth = pbb.planted_model(n_layers=5, states=(2,), output=3, n_programs=20)
        >>> truth[truth["group"] == "with_io"].set_index("variable")["layer"].to_dict()
        {'program': 1, 'input': 0, 'state_1': 2, 'output': 3}
        >>> pbb.load_model(model, tokenizer).cfg.n_layers
        5
    """
    import pandas as pd

    from pbb_probe.models.bases import load_tokenizer

    rng = random.Random(f"planted {seed}")
    circuits = check_design(n_layers, retrieve, tuple(states), output, where, tuple(decoys), arrive)
    programs = _draw(n_programs, len(states) + 1, rng)
    wiring = Wiring(n_layers, inputs=[("input", value) for value in VALUES])
    set_words(wiring)
    for circuit in circuits:
        own = {name: steps for i, (name, steps) in enumerate(programs.items()) if PLANTED[i % 2] in circuit.groups}
        set_circuit(wiring, circuit, own)
    for name in programs if noise else ():
        wiring.tokens[name] |= {held: rng.gauss(1.0, noise) for held in wiring.tokens[name] if held != IS_NAME}
    tokenizer = load_tokenizer("nano")
    truth = [
        {"group": group, "variable": variable, "layer": layer, "evaluation": circuit.evaluation}
        for circuit in circuits
        for group in circuit.groups
        for variable, layer in circuit.layers.items()
    ]
    return wiring.build(tokenizer, d_model, seed), tokenizer, _corpus(programs, rng), pd.DataFrame(truth)


def check_design(
    n_layers: int,
    retrieve: int,
    states: tuple[int, ...],
    output: int,
    where: Where,
    decoys: tuple[Decoy, ...],
    arrive: int,
) -> list[Circuit]:
    """One for both groups, or one each where a decoy tells them apart; refuses what cannot be built."""
    if unknown := set(decoys) - set(DECOYS):
        raise PbbError(f"Unknown decoy {min(unknown)!r}: choose from {', '.join(DECOYS)}.")
    if where not in get_args(Where):
        raise PbbError(f"Unknown place {where!r}: choose from {', '.join(get_args(Where))}.")
    if "composed" in decoys and (where != "name" or retrieve < 1):
        raise PbbError('composed happens at the name in the block before `retrieve`: where="name", retrieve above 0.')
    if "composed" in decoys and set(decoys) & {"early_state", "twice", "lookup"}:
        raise PbbError("composed leaves no steps and states: take early_state, twice and lookup away.")
    if "composed" in decoys and not states:
        raise PbbError(
            "A single step leaves nothing to compose: give `states` a block, whose number counts, not where."
        )
    if set(DIFFERENT) <= set(decoys):
        raise PbbError("later and lookup both say how without_io programs are evaluated: take one away.")
    evaluation: Evaluation = "compiled" if "composed" in decoys else "step by step" if states else "one step"
    first = Circuit(PLANTED, retrieve, states, output, evaluation, where, decoys, arrive)
    used = (output,) if "composed" in decoys else (*states, output)
    if min(retrieve, arrive) < 0 or used[0] < first.ready or list(used) != sorted(set(used)):
        raise PbbError(
            f"Program and input are at the answer position for the MLP of block {first.ready}: states and output need "
            f"blocks from there on, each later than the one before, not {', '.join(map(str, used))}."
        )
    if set(decoys) & {"early_state", "twice"} and not states:
        raise PbbError("early_state and twice are about state 1: give `states` a block.")
    if set(decoys) & {"early_state", "early_output"} and used[0] == first.ready:
        raise PbbError(f"Nothing can be early: the first state or output must come after block {first.ready}.")
    if "twice" in decoys and used[1] - used[0] < 2:
        raise PbbError(f"twice needs a block between those of state 1 ({used[0]}) and of what follows ({used[1]}).")
    circuits = [first]
    if set(DIFFERENT) & set(decoys):
        circuits = [replace(first, groups=(group,)) for group in PLANTED]
    if "later" in decoys:
        moved = tuple(layer + 1 for layer in states)
        circuits[1] = replace(circuits[1], retrieve=retrieve + 1, states=moved, output=output + 1)
    elif "lookup" in decoys:
        circuits[1] = replace(circuits[1], evaluation="looked up")
    if (last := max(circuit.output for circuit in circuits)) >= n_layers:
        raise PbbError(f"Block {last} is to write an output: n_layers must be at least {last + 1}, not {n_layers}.")
    return circuits


def _draw(n_programs: int, n_steps: int, rng: random.Random) -> dict[str, tuple[Step, ...]]:
    """Names and the steps of their programs, which repeat only where there are too few."""
    if not 4 <= n_programs <= PACKAGED:
        raise PbbError(f"n_programs must be from 4 to {PACKAGED}, the names that are tokens, not {n_programs}.")
    kinds = [rng.sample(every_step(), KINDS) for _ in range(n_steps)]
    pool = [steps for steps in itertools.product(*kinds) if worth_asking(steps)]
    rounds = -(-n_programs // len(pool))
    drawn = [steps for _ in range(rounds) for steps in rng.sample(pool, len(pool))]
    return dict(zip(rng.sample(nonsense_words(), n_programs), drawn, strict=False))


def _corpus(programs: dict[str, tuple[Step, ...]], rng: random.Random) -> Corpus:
    made = [arithmetic_program(name, steps) for name, steps in programs.items()]
    entries = []
    for i, (program, traces) in enumerate(zip(made, trace_programs(made, [VALUES] * len(made)), strict=True)):
        shown = sorted(rng.sample(VALUES, SHOWN)) if PLANTED[i % 2] == "with_io" else []
        entries.append(Entry(program, PLANTED[i % 2], tuple(traces), tuple(shown)))
    return Corpus(tuple(entries))
