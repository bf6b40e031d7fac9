"""A planted model that takes one step again and again, told in loops: the transfer map finds each pass where it is.

The names' circuits are those of straight-line programs of equal steps; the prompts show no code, so that the loops are
as true a text of them.
"""

import random

import pytest

from pbb_probe.calibration.circuits import set_circuit, set_words
from pbb_probe.calibration.planted import PLANTED, check_design
from pbb_probe.calibration.wiring import Wiring
from pbb_probe.evidence.onsets import how_evaluated, located_use
from pbb_probe.evidence.tables import transfer
from pbb_probe.hooking.calls import make_prompts
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.load import load_model
from pbb_probe.models.bases import load_tokenizer
from pbb_probe.patching.transfer import transfer_map
from pbb_probe.patching.transfer_pairs import make_transfer_pairs
from pbb_probe.probing.linear import fit_probes
from pbb_probe.programs.arithmetic import VALUES, every_step, loop_program
from pbb_probe.programs.corpus import Corpus, Entry
from pbb_probe.programs.names import nonsense_words
from pbb_probe.programs.program import trace_programs

N_LAYERS, OUTPUT = 6, 5
DESIGNS = {
    "two passes": (2, {"retrieve": 1, "states": (3,), "where": "answer", "decoys": ()}),
    "three passes": (3, {"retrieve": 1, "states": (2, 4), "where": "answer", "decoys": ()}),
    "composed": (2, {"retrieve": 1, "states": (3,), "where": "name", "decoys": ("composed",)}),
    "looked up": (2, {"retrieve": 1, "states": (3,), "where": "answer", "decoys": ("lookup",)}),
}


def planted_loops(turns: int, **design):
    """The model and its corpus, in which each program is `for i in range(turns): x = (a step of x)`."""
    rng = random.Random(0)
    steps = [step for step in every_step() if step[0] in ("add", "multiply", "subtract_from", "distance")]
    programs = dict(zip(rng.sample(nonsense_words(), 24), rng.sample(steps, 24), strict=True))
    wiring = Wiring(N_LAYERS, inputs=[("input", value) for value in VALUES])
    set_words(wiring)
    for circuit in check_design(N_LAYERS, output=OUTPUT, arrive=0, **design):
        own = [name for i, name in enumerate(programs) if PLANTED[i % 2] in circuit.groups]
        set_circuit(wiring, circuit, {name: (programs[name],) * turns for name in own})
    tokenizer = load_tokenizer("nano")
    made = [loop_program(name, turns, step) for name, step in programs.items()]
    traced = trace_programs(made, [VALUES] * len(made))
    entries = [
        Entry(program, PLANTED[i % 2], tuple(traces), ())
        for i, (program, traces) in enumerate(zip(made, traced, strict=True))
    ]
    return load_model(wiring.build(tokenizer, 256, seed=0), tokenizer), Corpus(tuple(entries))


def carried_in(name: str, group: str):
    turns, design = DESIGNS[name]
    model, corpus = planted_loops(turns, **design)
    pairs = make_transfer_pairs(corpus, model, group, n=60, decisive=False)
    return transfer_map(model, pairs, sites=["attn_out", "mlp_out"], roles=["answer"], controls=["random"])


@pytest.mark.parametrize(("name", "layers"), [("two passes", [3]), ("three passes", [2, 4])])
def test_each_pass_is_found_in_its_block_and_nowhere_else(name: str, layers: list[int]):
    carried = carried_in(name, "without_io")
    assert carried["answered"].all()
    assert carried["corrupted_answered"].all()
    for k, layer in enumerate(layers, start=1):
        share = carried["mlp_out"].sel(control="none", role="answer", hypothesis=f"pass_{k}").dropna("pair", how="all")
        assert share.sizes["pair"] > 20
        assert [float(value) for value in share.mean("pair")] == [float(each == layer) for each in range(N_LAYERS)]
        attention = carried["attn_out"].sel(control="none", role="answer", hypothesis=f"pass_{k}")
        assert float(attention.max()) == 0
    table = located_use(carried, by=(), draws=200).set_index("variable")
    assert table["layer"].dropna().to_dict() == {f"pass_{k}": each for k, each in enumerate(layers, 1)} | {
        "output": OUTPUT
    }
    assert how_evaluated(table.reset_index(), table.reset_index()[:0], by=[])["evaluation"].tolist() == ["step by step"]
    shares = transfer(carried.sel(control="none"), by=(), draws=50).query(
        "hypothesis == 'pass_1' and site == 'mlp_out'"
    )
    assert shares.set_index("layer")["proportion"].idxmax() == layers[0]


@pytest.mark.parametrize(("name", "group"), [("composed", "with_io"), ("looked up", "without_io")])
def test_a_model_without_passes_shows_them_nowhere(name: str, group: str):
    carried = carried_in(name, group)
    assert carried["corrupted_answered"].all()
    share = carried.sel(control="none", role="answer", hypothesis="pass_1").to_array("site").dropna("pair", how="all")
    assert share.sizes["pair"] > 20
    assert float(share.max()) == 0
    table = located_use(carried, by=(), draws=200).set_index("variable")
    assert table["layer"].dropna().to_dict() == {"output": OUTPUT}


def test_probes_read_a_pass_from_its_block_on():
    turns, design = DESIGNS["three passes"]
    model, corpus = planted_loops(turns, **design)
    prompts = make_prompts(corpus, model, seed=0)
    acts = capture(model, prompts, sites=["resid_post"], roles=["answer"])
    names = ["pass_1", "pass_2"]
    accuracy = fit_probes(acts, names, clusters="program")["correct"].mean(("prompt", "site", "role"))
    for name, layer in zip(names, design["states"], strict=True):
        by_layer = accuracy.sel(target=name).values
        assert by_layer[layer] > 0.95
        assert by_layer[:layer].max() < 0.7  # some steps, taken twice, give the input back, which is there before
