"""Planted models answer everything, and plain torch hooks on the bare model find each thing where it was planted."""

import contextlib
import random

import pytest
import torch

from pbb_probe.calibration.circuits import DECOYS
from pbb_probe.calibration.planted import planted_model
from pbb_probe.errors import PbbError
from pbb_probe.finetuning.behaviour import evaluate
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.programs.program import trace_programs

BASIC = {"n_layers": 6, "retrieve": 1, "states": (3,), "output": 4, "arrive": 0, "n_programs": 24}
NAMED = BASIC | {"where": "name"}
SETTINGS = {
    "answer": BASIC,
    "name": NAMED,
    "one step": BASIC | {"states": ()},
    "three steps": BASIC | {"states": (2, 3)},
    "at once": NAMED | {"n_layers": 1, "retrieve": 0, "states": (), "output": 0},
    "late input": BASIC | {"arrive": 3},
    "early_state": BASIC | {"decoys": ("early_state",)},
    "early_output": BASIC | {"decoys": ("early_output",)},
    "leftover": BASIC | {"decoys": ("leftover",)},
    "later": BASIC | {"decoys": ("later",)},
    "lookup": BASIC | {"decoys": ("lookup",)},
    "lookup at the name": NAMED | {"decoys": ("lookup",)},
    "composed": NAMED | {"decoys": ("composed",)},
    "composed early": NAMED | {"decoys": ("composed", "early_output")},
    "twice": BASIC | {"states": (2,), "decoys": ("twice",)},
    "twice and later": BASIC | {"n_layers": 7, "output": 5, "decoys": ("twice", "later", "early_output")},
}


class Planted:
    """A planted model, with its parts at hand as plain torch modules."""

    def __init__(self, **settings):
        self.model, self.tokenizer, self.corpus, self.truth = planted_model(**settings)
        self.blocks = self.model.model.layers

    def layer(self, group: str, variable: str) -> float:
        (layer,) = self.truth.query("group == @group and variable == @variable")["layer"]
        return layer

    def ask(self, prompt: str, value: int) -> tuple[torch.Tensor, int, int]:
        """Token ids [1, position], the position of the name, and that of the answer."""
        ids = self.tokenizer(f"run {prompt}({value}) :", return_tensors="pt")["input_ids"]
        return ids, 2, ids.shape[1] - 1

    def answer(self, ids: torch.Tensor) -> int | None:
        """What the model says next, None where that is no digit."""
        with torch.inference_mode():
            said = self.tokenizer.decode(self.model(ids).logits[0, -1].argmax())
        return int(said) if said.isdigit() else None

    @contextlib.contextmanager
    def put(self, module: torch.nn.Module, position: int, value: torch.Tensor, before: bool = False):
        """The module's output (or its input) at one position is the given one."""

        def changed(tensor: torch.Tensor) -> torch.Tensor:
            tensor = tensor.clone()
            tensor[0, position] = value
            return tensor

        def hook(_, args, out=None):
            if before:
                return (changed(args[0]), *args[1:])
            return (changed(out[0]), *out[1:]) if isinstance(out, tuple) else changed(out)

        handle = module.register_forward_pre_hook(hook) if before else module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def record(self, module: torch.nn.Module, ids: torch.Tensor, position: int, before: bool = False) -> torch.Tensor:
        kept = []

        def hook(_, args, out=None):
            tensor = args[0] if before else out[0] if isinstance(out, tuple) else out
            kept.append(tensor[0, position].clone())

        handle = module.register_forward_pre_hook(hook) if before else module.register_forward_hook(hook)
        try:
            self.answer(ids)
        finally:
            handle.remove()
        return kept[0]

    def swapped(self, module: torch.nn.Module, own, other, role: str, before: bool = False) -> int | None:
        """The answer to `own` (program, input) with what `other` has at one role in its place."""
        (ids, name, last), (theirs, _, _) = self.ask(*own), self.ask(*other)
        position = {"name": name, "answer": last, "input": last - 2}[role]
        with self.put(module, position, self.record(module, theirs, position, before), before):
            return self.answer(ids)

    def calls(self, group: str, n: int = 12):
        """Pairs of calls of different programs on different inputs, with their entries."""
        rng, entries = random.Random(0), self.corpus.of(group)
        for _ in range(n):
            own, other = rng.sample(entries, 2)
            x, y = rng.sample(range(10), 2)
            yield own, other, x, y


@pytest.fixture(scope="module")
def planted():
    made = {}

    def make(name: str) -> Planted:
        if name not in made:
            made[name] = Planted(**SETTINGS[name])
        return made[name]

    return make


def value(entry, x: int) -> int:
    return entry.traces[x].output


@pytest.mark.parametrize("name", SETTINGS)
def test_every_program_is_answered_on_every_input_in_every_template(planted, name: str):
    made = planted(name)
    behaviour = evaluate_saved(made)
    assert float(behaviour["correct"].mean()) == 1.0
    assert len(set(behaviour["program"].values.tolist())) == 24


def evaluate_saved(made: Planted, n: int | None = None):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made.model.save_pretrained(folder)
        made.tokenizer.save_pretrained(folder)
        return evaluate(folder, made.corpus, modes=("direct",), n=n)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("group", ["with_io", "without_io"])
def test_the_program_leaves_its_name_in_the_planted_block(planted, name: str, group: str):
    made = planted(name)
    leaves = made.layer(group, "program")
    for own, other, x, _ in made.calls(group):
        for layer, block in enumerate(made.blocks):
            answer = made.swapped(block, (own.program.name, x), (other.program.name, x), "name", before=True)
            assert answer == value(other if layer <= leaves else own, x)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_input_leaves_its_place_in_the_planted_block(planted, name: str):
    made = planted(name)
    leaves = made.layer("with_io", "input")
    for own, _, x, y in made.calls("with_io"):
        for layer, block in enumerate(made.blocks):
            answer = made.swapped(block, (own.program.name, x), (own.program.name, y), "input", before=True)
            assert answer == value(own, y if layer <= leaves else x)


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name]["states"]])
@pytest.mark.parametrize("group", ["with_io", "without_io"])
def test_states_are_written_by_the_planted_blocks_and_by_no_other(planted, name: str, group: str):
    """The MLP output of another program's run, put in: the rest of the own program goes on from the other's state."""
    made = planted(name)
    first, output = made.layer(group, "state_1"), made.layer(group, "output")
    later = made.truth.query("group == @group and variable == 'state_2'")["layer"].tolist()
    told_apart = 0
    for own, other, x, y in made.calls(group, 20):
        rest = own.program.source.splitlines()
        source = "\n".join([f"def {own.program.name}(y):", *rest[2:]])
        program = type(own.program)(own.program.name, "", source)
        state = other.traces[y].states[0]
        (((trace,)),) = trace_programs([program], [[state]])
        if len({trace.output, value(own, x), value(other, y), value(own, y), value(other, x)}) < 5:
            continue
        told_apart += 1
        calls = (own.program.name, x), (other.program.name, y)
        for layer, block in enumerate(made.blocks):
            if layer in later:
                continue  # their answer is one more, which may be any of the others by chance
            answer = made.swapped(block.mlp, *calls, "answer")
            assert (answer == trace.output) == (layer == first)
            assert (answer == value(other, y)) == (layer == output)
    assert told_apart >= 2


def test_no_state_is_carried_where_programs_are_composed_or_looked_up(planted):
    assert planted("composed").truth.query("variable == 'state_1'")["layer"].isna().all()
    truth = planted("lookup").truth.set_index(["group", "variable"])
    assert truth.loc["without_io"]["evaluation"].unique().tolist() == ["looked up"]
    assert truth.loc["with_io"]["evaluation"].unique().tolist() == ["step by step"]


def test_later_is_one_block_later_and_only_for_programs_without_examples(planted):
    truth = planted("later").truth.pivot(index="variable", columns="group", values="layer")
    assert (truth["without_io"] - truth["with_io"]).to_dict() == {"program": 1, "input": 0, "state_1": 1, "output": 1}


def test_twice_answers_without_the_first_computation_and_basic_does_not(planted):
    for name, survives in (("twice", True), ("answer", False)):
        made = planted(name)
        block = made.blocks[int(made.layer("with_io", "state_1"))]
        right = []
        for own, _, x, _ in made.calls("with_io"):
            ids, _, last = made.ask(own.program.name, x)
            with made.put(block.mlp, last, torch.zeros(made.model.config.hidden_size)):
                right.append(made.answer(ids) == value(own, x))
        assert all(right) if survives else sum(right) <= len(right) / 4  # of ten digits, some come by chance


@pytest.mark.parametrize(("name", "variable"), [("early_state", "state_1"), ("early_output", "output")])
def test_early_values_are_there_before_the_planted_block_and_nothing_reads_them(planted, name: str, variable: str):
    """Nearest class means over programs read them off; without the block's MLP they are gone and the answer stays."""
    made, plain = planted(name), planted("answer")
    early = 2  # the first block whose MLP has steps and input
    for model, readable in ((made, True), (plain, False)):
        rows, classes = [], []
        for entry in model.corpus.entries:
            for x in range(10):
                ids, _, last = model.ask(entry.program.name, x)
                rows.append(model.record(model.blocks[early].mlp, ids, last))
                classes.append(entry.traces[x].variables()[variable])
        stacked, known = torch.stack(rows), torch.tensor(classes)
        means = torch.stack([stacked[known == c].mean(0) for c in known.unique()])
        nearest = known.unique()[torch.cdist(stacked, means).argmin(1)]
        accuracy = float((nearest == known).float().mean())
        assert accuracy == 1.0 if readable else accuracy < 0.5
    for own, _, x, _ in made.calls("with_io"):
        ids, _, last = made.ask(own.program.name, x)
        with made.put(made.blocks[early].mlp, last, torch.zeros(made.model.config.hidden_size)):
            assert made.answer(ids) == value(own, x)


def test_used_steps_are_erased_unless_they_are_left(planted):
    """How much of the difference of two names is still at the answer position at the top."""
    kept = {}
    for name in ("answer", "leftover"):
        made = planted(name)
        kept[name] = []
        for own, other, x, _ in made.calls("with_io"):
            if value(own, x) == value(other, x) and own.traces[x].states == other.traces[x].states:
                continue
            ids, theirs = made.ask(own.program.name, x)[0], made.ask(other.program.name, x)[0]
            kept[name].append(
                float((made.record(made.blocks[-1], ids, -1) - made.record(made.blocks[-1], theirs, -1)).norm())
            )
    # squared: states and outputs differ by 2 + 2 at most, two steps by as much again
    assert max(kept["answer"]) == pytest.approx(2.0, abs=0.01)
    assert max(kept["leftover"]) == pytest.approx(8**0.5, abs=0.01)


def test_the_tokenizer_the_corpus_and_the_seed(planted):
    made = planted("answer")
    assert len(made.corpus.of("with_io")) == len(made.corpus.of("without_io")) == 12
    assert all(len(entry.shown) == 5 for entry in made.corpus.of("with_io"))
    again, other = Planted(**BASIC), Planted(**BASIC | {"seed": 1})
    assert again.corpus == made.corpus
    assert other.corpus != made.corpus
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, made.model.state_dict()[name])
    prompts = Prompts.from_texts(type("M", (), {"tokenizer": made.tokenizer})(), ["run x(3) :"])
    assert prompts.tokens.shape[1] == 7  # the start, six words


def test_noise_spoils_some_programs_more_than_others():
    made = Planted(**BASIC | {"noise": 0.3, "n_programs": 60})
    right = evaluate_saved(made).to_dataframe().groupby("program")["correct"].mean()
    assert 0.2 < right.mean() < 0.95
    assert right.std() > 0.2


REFUSED = [
    ({"decoys": ("magic",)}, "Unknown decoy 'magic'"),
    ({"where": "elsewhere"}, "Unknown place 'elsewhere'"),
    ({"output": 6}, "n_layers must be at least 7"),
    ({"output": 5, "decoys": ("later",)}, "n_layers must be at least 7"),
    ({"states": (1,)}, "MLP of block 2"),
    ({"states": (4,)}, "each later than the one before"),
    ({"states": (3, 2)}, "each later than the one before"),
    ({"arrive": -1}, "need blocks from there on"),
    ({"decoys": ("later", "lookup")}, "take one away"),
    ({"decoys": ("composed",)}, 'where="name"'),
    ({"decoys": ("composed", "twice"), "where": "name"}, "no steps and states"),
    ({"decoys": ("composed",), "where": "name", "states": ()}, "nothing to compose"),
    ({"decoys": ("early_state",), "states": (2,)}, "Nothing can be early"),
    ({"decoys": ("early_state",), "states": ()}, "about state 1"),
    ({"decoys": ("twice",)}, "twice needs a block"),
    ({"n_programs": 2}, "n_programs must be from 4"),
    ({"d_model": 64}, "d_model must be at least"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_cannot_be_built_is_refused(change: dict, words: str):
    with pytest.raises(PbbError, match=words):
        planted_model(**BASIC | change)


def test_every_decoy_is_tried_here():
    assert set(DECOYS) == {decoy for settings in SETTINGS.values() for decoy in settings.get("decoys", ())}
