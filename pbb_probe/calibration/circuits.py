"""Circuits: from the names of some programs to their outputs, as features, moves and units of a wiring."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pbb_probe.calibration.wiring import END, IS_ANSWER, IS_NAME, START, Feature, Unit, Wiring
from pbb_probe.programs.arithmetic import OPERATIONS, VALUES, Step
from pbb_probe.programs.corpus import Group
from pbb_probe.programs.names import nonsense_words
from pbb_probe.programs.templates import CALLS

Where = Literal["answer", "name"]
Decoy = Literal["early_state", "early_output", "leftover", "later", "lookup", "composed", "twice"]
DECOYS: tuple[Decoy, ...] = get_args(Decoy)
DIFFERENT: tuple[Decoy, ...] = ("later", "lookup")
"""Those that make the groups differ."""
Evaluation = Literal["step by step", "one step", "compiled", "looked up"]
UNSAID: tuple[Evaluation, ...] = ("compiled", "looked up")
"""What the instrument does not tell yet: it must leave such programs undetermined."""


@dataclass(frozen=True)
class Circuit:
    """How the programs of some groups are evaluated."""

    groups: tuple[Group, ...]
    retrieve: int
    states: tuple[int, ...]
    output: int
    evaluation: Evaluation
    where: Where
    decoys: tuple[Decoy, ...]
    arrive: int

    @property
    def ready(self) -> int:
        """The first block whose MLP has steps and input at the answer position."""
        return max(self.retrieve + (self.where == "answer"), self.arrive)

    @property
    def layers(self) -> dict[str, float]:
        """The block of each variable, NaN where there is no such variable."""
        there = self.evaluation in ("step by step", "one step")
        states = {f"state_{k}": layer if there else float("nan") for k, layer in enumerate(self.states, start=1)}
        return {"program": self.retrieve, "input": self.arrive, **states, "output": self.output}


def set_words(wiring: Wiring) -> None:
    """What every model reads and says: the start, names, digits, and the words after which an answer is due."""
    wiring.tokens["<bos>"] = {START: 1.0}
    wiring.tokens |= {name: {IS_NAME: 1.0} for name in nonsense_words()}
    wiring.says["("] = IS_NAME
    wiring.says["<eos>"] = END  # after a digit
    for value in VALUES:
        wiring.tokens[str(value)] = {("input", value): 1.0, END: 1.0}
        wiring.says[str(value)] = ("output", value)
    for template in CALLS:
        wiring.tokens[template.split()[-1]] = {IS_ANSWER: 1.0}


def set_circuit(wiring: Wiring, circuit: Circuit, programs: dict[str, tuple[Step, ...]]) -> None:
    """From the names of these programs to their outputs."""
    wiring.moves[circuit.arrive, "input"] = list(wiring.inputs)
    identified = circuit.where == "answer" or circuit.evaluation == "looked up"
    for name, steps in programs.items():
        known = [_identity(name)] if identified else _steps(circuit, steps)
        wiring.tokens[name] = {IS_NAME: 1.0} | dict.fromkeys(known, 1.0)
    held = list(dict.fromkeys(feature for name in programs for feature in wiring.tokens[name] if feature != IS_NAME))
    if circuit.evaluation == "compiled":
        held = [("table", (x, y)) for x in VALUES for y in VALUES]
    moved = wiring.moves[circuit.retrieve, "name"]
    moved += [feature for feature in held if feature not in moved]
    if circuit.evaluation == "looked up":
        for name, steps in programs.items():
            for x in VALUES:
                _add(wiring, circuit, circuit.output, [_identity(name), ("input", x)], ("output", _run(steps, x)))
        return
    if identified:
        for name, steps in programs.items():
            reads = (_identity(name), IS_ANSWER)
            writes = dict.fromkeys(_steps(circuit, steps), 1.0) | {_identity(name): -1.0}
            wiring.units[circuit.retrieve].append(Unit(reads, writes))
    distinct = list(dict.fromkeys(programs.values()))
    if circuit.evaluation == "compiled":
        _compose(wiring, circuit, distinct)
    else:
        _take_steps(wiring, circuit, distinct)


def _take_steps(wiring: Wiring, circuit: Circuit, distinct: list[tuple[Step, ...]]) -> None:
    """Each state from the one before it."""
    named = [f"state_{k}" for k in range(1, len(circuit.states) + 1)]
    chain = ["input", *named, "output"]
    for k, layer in enumerate((*circuit.states, circuit.output)):
        again = "twice" in circuit.decoys and k == 0
        for step in dict.fromkeys(steps[k] for steps in distinct):
            for value in VALUES:
                reads, after = [_step(circuit, k, step), (chain[k], value)], _run([step], value)
                _add(wiring, circuit, layer, reads, (chain[k + 1], after), keep=again)
                if k == 0 and "early_state" in circuit.decoys:
                    _add(wiring, circuit, circuit.ready, reads, ("early state", after), keep=True)
                if again:
                    there = tuple((chain[1], other) for other in VALUES)
                    wiring.units[layer + 1].append(Unit(tuple(reads), {(chain[1], after): 1.0}, shuns=there))
    for steps, x in itertools.product(distinct, VALUES) if "early_output" in circuit.decoys else ():
        reads = [*_steps(circuit, steps), ("input", x)]
        _add(wiring, circuit, circuit.ready, reads, ("early output", _run(steps, x)), keep=True)


def _compose(wiring: Wiring, circuit: Circuit, distinct: list[tuple[Step, ...]]) -> None:
    """At the name the steps become a table, from which the answer position takes the row of its input."""
    for steps in distinct:
        reads = _steps(circuit, steps)
        table = {("table", (x, _run(steps, x))): 1.0 for x in VALUES}
        wiring.units[circuit.retrieve - 1].append(Unit(tuple(reads), table | dict.fromkeys(reads, -1.0)))
    _read_table(wiring, circuit, circuit.output, "output")
    if "early_output" in circuit.decoys:
        _read_table(wiring, circuit, circuit.ready, "early output")


def _read_table(wiring: Wiring, circuit: Circuit, layer: int, what: str) -> None:
    for x, y in itertools.product(VALUES, VALUES):
        _add(wiring, circuit, layer, [("table", (x, y)), ("input", x)], (what, y), keep=True)


def _add(
    wiring: Wiring, circuit: Circuit, layer: int, reads: list[Feature], writes: Feature, keep: bool = False
) -> None:
    """A unit that uses up the first feature that it reads, unless that is to stay."""
    used_up = {} if keep or "leftover" in circuit.decoys else {reads[0]: -1.0}
    wiring.units[layer].append(Unit(tuple(reads), {writes: 1.0} | used_up))


def _identity(name: str) -> Feature:
    return "identity", name


def _step(circuit: Circuit, k: int, step: Step) -> Feature:
    """Circuits have steps of their own, so that none of them does the other's work."""
    return f"step {k + 1} of {' and '.join(circuit.groups)}", step


def _steps(circuit: Circuit, steps: Sequence[Step]) -> list[Feature]:
    return [_step(circuit, k, step) for k, step in enumerate(steps)]


def _run(steps: Sequence[Step], value: int) -> int:
    for operation, constant in steps:
        value = OPERATIONS[operation].apply(value, constant)
    return value
