"""The transfer map is a brute force of hooked runs, one pair at a time, and says what is true where truth is known."""

import functools
import itertools
import random
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from transformers import AutoModelForCausalLM

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answering import gives_answers
from pbb_probe.hooking.answers import answer_ids
from pbb_probe.hooking.load import load_model, untrained_model
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.labels import measurement
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import SweepSettings
from pbb_probe.patching.transfer import _followed, transfer_map
from pbb_probe.patching.transfer_pairs import make_transfer_pairs
from pbb_probe.programs.corpus import make_corpus

HOOKS = {"resid_pre": "hook_resid_pre", "mlp_out": "hook_mlp_out", "z": "attn.hook_z"}
LAYERS = (0, 2)
ROLES = ("name", "input", "answer")


@pytest.fixture(scope="module")
def writer(bridge, small_model):
    """`writer(name)`: `nano`, whose answers are one token, or `digits`, a random model that writes digits on and on."""

    @functools.cache
    def make(name: str):
        if name == "nano":
            return bridge("nano")
        hf, tokenizer = AutoModelForCausalLM.from_pretrained(small_model("llama")), bridge("llama").tokenizer
        kept = torch.zeros(len(hf.lm_head.weight), dtype=bool)
        kept[[tokenizer(f"{before}{n}")["input_ids"][-1] for n in range(10) for before in (" ", "x")]] = True
        hf.lm_head.weight.data[~kept] = 0
        return load_model(hf, tokenizer)

    return make


def written(model, base: Prompts, source: Prompts, pair: int, site: str, cell: tuple) -> list[int]:
    """What a base run goes on with while one activation is the source's: one row, unpadded, by hooks."""
    layer, head, role = cell
    name = f"blocks.{layer}.{HOOKS[site]}"
    mask = base.attention_mask[pair].bool()
    ids = base.tokens[pair][mask][None]
    first, last = (base.spans[role][pair] - mask.int().argmax()).tolist()
    place = slice(first, last + 1)
    where = (0, place) if head is None else (0, place, head)
    _, cache = model.run_with_cache(source.tokens[pair][mask][None], names_filter=lambda hook: hook == name)

    def put(activation, hook):
        activation[where] = cache[name][where]
        return activation

    n = 1 if model.cfg.d_model > 32 else 3  # tokens: nano writes one
    for _ in range(n):
        with torch.inference_mode():
            logits = model.run_with_hooks(ids, fwd_hooks=[(name, put)])
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    return ids[0, -n:].tolist()


def ids_of(model, number: int) -> list[int]:
    return model.tokenizer(f" {number}", add_special_tokens=False)["input_ids"]


def begins(model, tokens: list[int], number: int) -> bool:
    return tokens[: len(ids_of(model, number))] == ids_of(model, number)


def number_in(model, tokens: list[int]) -> int | None:
    """The longest number that these tokens begin with."""
    for n in (3, 2, 1):
        text = model.tokenizer.decode(tokens[:n]).strip()
        if text.isdecimal() and begins(model, tokens, int(text)):
            return int(text)
    return None


def planted_answers(own: int, other: int | None, found: list[int | None], turn: int) -> dict[str, int]:
    """Answers for the hypotheses of a pair, chosen such that each is met somewhere, or begins another."""
    common = [number for number, _ in Counter(n for n in found if n is not None).most_common()]
    candidates = [n for n in (other, own // 10 or None, *common, *range(10)) if n is not None and n != own]
    everything, program, given = np.roll(list(dict.fromkeys(candidates))[:3], turn).tolist()
    return {"nothing": own, "everything": everything, "program": program, "input": given}


def in_order(carried: xr.DataArray) -> np.ndarray:
    """[hypothesis, cell, pair] of one run, its cells in the order layer, head, role."""
    head = [dim for dim in carried.dims if dim == "head"]
    values = carried.transpose("hypothesis", "layer", *head, "role", "pair").values
    return values.reshape(values.shape[0], -1, values.shape[-1])


@pytest.mark.parametrize("site", HOOKS)
@pytest.mark.parametrize("name", ["nano", "digits"])
def test_every_cell_is_the_brute_force(name, site, writer, corpus):
    """The programs are tables of what the model really writes, so that each hypothesis is met somewhere."""
    model = writer(name)
    pairs = make_transfer_pairs(corpus, model, "with_io", n=24)
    base, source = pairs.corrupted, pairs.clean
    places = list(itertools.product(LAYERS, range(4) if site == "z" else [None], ROLES))
    own, other = (
        [number_in(model, written(model, run, run, pair, site, places[0])) for pair in range(len(pairs))]
        for run in (base, source)
    )
    kept = [pair for pair, number in enumerate(own) if number is not None][:10]
    tokens = {pair: [written(model, base, source, pair, site, cell) for cell in places] for pair in kept}
    answers = [
        planted_answers(own[pair], other[pair], [number_in(model, found) for found in tokens[pair]], turn)
        for turn, pair in enumerate(kept)
    ]
    names = [*answers[0], "other"]
    expected = np.zeros((len(names), len(places), len(kept)))
    for i, pair in enumerate(kept):
        for cell, found in enumerate(tokens[pair]):
            met = [h for h, number in answers[i].items() if begins(model, found, number)]
            longest = max(met, key=lambda h: len(ids_of(model, answers[i][h])), default="other")
            expected[names.index(longest), cell, i] = 1

    base, source = base.select(kept), source.select(kept)
    for run, at_x, at_y in ((base, "nothing", "input"), (source, "program", "everything")):
        calls = zip(run.labels["program"], base.labels["call"], source.labels["call"], answers, strict=True)
        run.labels["source"] = [
            f"def {f}(x):\n    return {{{x}: {a[at_x]}, {y}: {a[at_y]}}}[x]" for f, x, y, a in calls
        ]
    carried = transfer_map(model, Pairs(source, base), (site,), ROLES, LAYERS)
    assert list(carried["hypothesis"].values) == names
    found = in_order(carried[site])
    assert np.array_equal(found, expected)
    assert (found.sum(axis=(1, 2)) > 0).sum() >= 3 + (name == "digits")
    assert carried["corrupted_answered"].all()
    assert list(carried["answered"]) == [a["everything"] == other[pair] for a, pair in zip(answers, kept, strict=True)]
    assert list(carried["corrupted_program"]) == list(base.labels["program"])
    assert list(carried["program"]) == list(source.labels["program"])
    assert list(carried["corrupted_steps"]) == list(base.labels["steps"])
    assert set(carried["group"].values) == set(carried["corrupted_group"].values) == {"with_io"}


@pytest.mark.parametrize("side", ["right", "left"])
def test_prompts_of_unequal_lengths_padded_on_either_side(side, bridge, corpus):
    model = bridge("nano")
    pairs = make_transfer_pairs(corpus, model, "with_io", n=12)
    runs = []
    for run in (pairs.corrupted, pairs.clean):
        roles = {
            role: [
                (text.index(part), text.index(part) + len(part)) for text, part in zip(run.texts, parts, strict=True)
            ]
            for role, parts in (("name", run.labels["program"]), ("input", run.labels["call"]))
        }
        runs.append(Prompts.from_texts(model, run.texts, roles, run.labels, side))
    assert len(set(runs[0].attention_mask.sum(1).tolist())) > 1
    xr.testing.assert_equal(
        transfer_map(model, Pairs(runs[1], runs[0]), roles=ROLES), transfer_map(model, pairs, roles=ROLES)
    )


PROGRAM = "def nigtok(x):\n    y = abs(x - {a})\n    return ({c} - y) % 10"
SWAPS = {"first": "steps_to_1", "second": "steps_after_1", "code": "program", "input": "input", "all": "everything"}


def in_context(model, programs: list[tuple[int, int]], inputs: list[int]) -> Prompts:
    """The program's code, then a call; the roles are its first constant, its second, all between, input, everything."""
    texts, rows = [], []
    roles: dict[str, list] = {role: [] for role in SWAPS}
    for (a, c), x in zip(programs, inputs, strict=True):
        code = PROGRAM.format(a=a, c=c)
        text = f"write the function nigtok in python :\n{code}\nnigtok({x}) ="
        first, second, call = text.index("x - ") + 4, text.index("return (") + 8, text.rindex("(") + 1
        spans = ((first, first + 1), (second, second + 1), (first, second + 1), (call, call + 1), (0, len(text)))
        for role, span in zip(SWAPS, spans, strict=True):
            roles[role].append(span)
        texts.append(text)
        rows.append(("nigtok", code, str(x), (c - abs(x - a)) % 10))
    labels = pd.DataFrame(rows, columns=["program", "source", "call", "output"])
    return Prompts.from_texts(model, texts, roles, labels)


@pytest.fixture(scope="module")
def contexts(bridge) -> tuple[Prompts, Prompts]:
    """Base and source runs with the code in context, such that the model answers right whatever is swapped."""
    model, rng = bridge("nano"), random.Random(0)
    base, source = ([rng.sample(range(1, 10), 3) for _ in range(100)] for _ in range(2))
    swapped = (
        base,
        source,
        *(
            [[s[k] if k in places else b[k] for k in range(3)] for b, s in zip(base, source, strict=True)]
            for places in ((0,), (1,), (0, 1), (2,))
        ),
    )
    runs = [in_context(model, [(a, c) for a, c, _ in rows], [x for _, _, x in rows]) for rows in swapped]
    right = [gives_answers(model, run, answer_ids(model, run, run.labels["output"])).numpy() for run in runs]
    rows = np.flatnonzero(np.all(right, axis=0)).tolist()
    assert len(rows) > 40
    return runs[0].select(rows), runs[1].select(rows)


def test_code_in_context_is_followed_as_it_must_be(bridge, contexts):
    """Before the first block a swap of tokens' activations is a swap of the tokens themselves."""
    model, (base, source) = bridge("nano"), contexts
    carried = transfer_map(
        model,
        Pairs(source, base),
        ("resid_pre",),
        list(SWAPS),
        layers=[0, 3],
        controls=("self", "random"),
    )
    assert carried.attrs["given"] == len(base) > carried.attrs["qualified"] == carried.sizes["pair"] > 5
    assert carried["corrupted_answered"].all()
    assert carried["answered"].all()
    at_once = carried["resid_pre"].sel(control="none", layer=0)
    for role, hypothesis in SWAPS.items():
        assert always(at_once.sel(role=role, hypothesis=hypothesis)), role
    everywhere = carried["resid_pre"].sel(role="all", hypothesis="everything")
    assert always(everywhere.sel(control="none"))
    assert always(carried["resid_pre"].sel(control="self", hypothesis="nothing"))
    assert everywhere.sel(control="random").mean() < 0.5
    ambiguous = carried["resid_pre"].isnull().any("hypothesis")
    assert (carried["resid_pre"].sum("hypothesis") == 1).where(~ambiguous, True).all()
    assert (carried["resid_pre"].sum("hypothesis") <= 1).all()
    halves = at_once.sel(hypothesis=[name for name in at_once["hypothesis"].values if "only" in name])
    assert halves.sizes["hypothesis"] == 4
    assert halves.sum() == 0  # it evaluates both steps


def always(values: xr.DataArray) -> bool:
    """1 wherever the pair tells, which some pairs do."""
    return bool((values.fillna(1) == 1).all() and values.notnull().any())


def test_pairs_that_two_hypotheses_explain_are_left_out(bridge, contexts):
    model, (base, source) = bridge("nano"), contexts
    carried = transfer_map(model, Pairs(source, base), ("resid_pre",), ["input"], [0])
    kept = carried["pair"].values.tolist()
    for pair in range(len(base)):
        (a, c, x), (b, d, y) = (
            (int(code[code.index("x - ") + 4]), int(code[code.index("return (") + 8]), int(call))
            for code, call in (run.labels.loc[pair, ["source", "call"]] for run in (base, source))
        )
        answers = [
            (q - abs(z - p)) % 10
            for p, q, z in ((a, c, x), (b, d, y), (b, d, x), (a, c, y), (b, c, y), (b, c, x), (a, d, x))
        ]
        assert (len(set(answers)) == 7) == (pair in kept)
    assert 0 < len(kept) < len(base)


def expression_of(line: str):
    """A line of a straight-line program as a function of the one value that it uses."""
    text = line.split("=")[-1].replace("return", "").strip()
    return lambda value: eval(text, {"max": max, "min": min, "abs": abs, "x": value, "y": value})


def predicted_by_hand(base: pd.Series, donor: pd.Series) -> list:
    """The answers of the eleven hypotheses of two steps, or of the four of one step."""
    (*first, a), (*second, b) = (
        [expression_of(line) for line in row["source"].splitlines()[1:]] for row in (base, donor)
    )
    x, y = base["input"], donor["input"]
    if not first:
        return [a(x), b(y), b(x), a(y), *[None] * 7]
    (f,), (g,) = first, second
    whole = [a(f(x)), b(g(y)), b(g(x)), a(f(y)), a(g(y)), a(g(x)), b(f(x))]
    return [*whole, f(x), a(x), g(x), b(x)]


def test_a_hypothesis_counts_where_no_other_predicts_its_answer(bridge, corpus):
    """Pairs of one step lack those of steps; of two steps some tell of some hypotheses only."""
    pairs = make_transfer_pairs(corpus, bridge("nano"), "with_io", n=16, decisive=False)
    carried = transfer_map(bridge("nano"), pairs, roles=["answer"], layers=[1])
    assert set(carried["steps"].values) == {1, 2}
    for site in ("resid_pre", "attn_out", "mlp_out"):
        values = carried[site]
        assert values.dims == ("layer", "role", "hypothesis", "pair")
        assert values.sizes["hypothesis"] == 12
        for pair in range(len(pairs)):
            answers = predicted_by_hand(pairs.corrupted.labels.iloc[pair], pairs.clean.labels.iloc[pair])
            tells = [answer is not None and answers.count(answer) == 1 for answer in answers]
            found = values.isel(pair=pair, layer=0, role=0)
            assert found.notnull().values.tolist() == [*tells, True]
            assert float(found.sum()) == 1 or not all(tells)
        assert (values.sum("hypothesis") <= 1).all()
        assert (values.sum("hypothesis") == 1).where(carried["steps"] == 1, True).all()


def test_heads_and_shapes(bridge, corpus):
    pairs = make_transfer_pairs(corpus, bridge("llama"), "with_io", n=4)
    carried = transfer_map(bridge("llama"), pairs, ("z", "v", "resid_post"), layers=[2, 0])
    assert carried["z"].dims == ("layer", "head", "role", "hypothesis", "pair")
    assert carried["v"].dims == ("layer", "kv_head", "role", "hypothesis", "pair")
    assert carried["z"].shape[:3] == (2, 4, 3)
    assert list(carried["layer"]) == [2, 0]
    assert list(carried["role"]) == ["name", "input", "answer"]
    assert set(carried.data_vars) == {"z", "v", "resid_post"}


def test_controls(bridge, corpus):
    model = bridge("nano")
    pairs = make_transfer_pairs(corpus, model, "with_io", n=20)
    runs = {"roles": ["answer", "name"], "layers": [0, 5]}
    controls = ("untrained", "self", "mean_difference", "random")
    carried = transfer_map(model, pairs, controls=controls, **runs)
    assert list(carried["control"].values) == ["none", *controls]
    alone = transfer_map(model, pairs, **runs)
    xr.testing.assert_equal(measurement(carried), alone)
    itself = carried.sel(control="self")
    for site in ("resid_pre", "attn_out", "mlp_out"):
        nothing = itself[site].sel(hypothesis="nothing")
        unchanged = (nothing == carried["corrupted_answered"]).where(nothing.notnull(), True)
        assert unchanged.all()  # whatever else the base run says, it still says
    untrained = transfer_map(untrained_model(model, 3), pairs, **runs)
    again = transfer_map(model, pairs, controls=["untrained"], seed=3, **runs)
    for site in ("resid_pre", "attn_out", "mlp_out"):
        assert np.array_equal(again[site].sel(control="untrained"), untrained[site], equal_nan=True)
    draws = [
        transfer_map(model, pairs, controls=["random"], seed=seed, **runs).sel(control="random") for seed in (0, 0, 1)
    ]
    assert draws[0].equals(draws[1])
    assert not draws[0].equals(draws[2])


def test_a_subspace_of_everything_is_the_whole_activation(bridge, corpus):
    model = bridge("nano")
    pairs = make_transfer_pairs(corpus, model, "with_io", n=12)
    width = model.cfg.d_model
    bases = {None: width, "everything": width, "one direction": 1}
    changed = {}
    for name, rank in bases.items():
        subspaces = {"resid_pre": torch.eye(width)[:, :rank].expand(2, 2, -1, -1)} if name else None
        where = {"sites": ("resid_pre",), "roles": ["name", "answer"], "layers": [0, 3], "subspaces": subspaces}
        values = transfer_map(model, pairs, controls=["self"], **where)["resid_pre"].fillna(0)
        changed[name] = (values.sel(control="none") != values.sel(control="self")).any("hypothesis")
    assert float(changed[None].mean()) > 0.1
    assert float((changed[None] == changed["everything"]).mean()) > 0.99
    assert float(changed["one direction"].mean()) < 0.5 * float(changed[None].mean())


def test_a_map_goes_on_where_it_was_stopped(bridge, corpus, tmp_path):
    model = bridge("nano")
    pairs = make_transfer_pairs(corpus, model, "with_io", n=8)
    runs = {"roles": ["answer"], "layers": [0, 1], "controls": ["self", "untrained"]}
    once = transfer_map(model, pairs, **runs)
    for _ in range(2):
        xr.testing.assert_equal(once, transfer_map(model, pairs, settings=SweepSettings(resume=tmp_path), **runs))


def test_it_saves_as_netcdf(bridge, corpus, tmp_path):
    pairs = make_transfer_pairs(corpus, bridge("nano"), "with_io", n=8)
    carried = transfer_map(bridge("nano"), pairs, roles=["answer"], layers=[1])
    carried.to_netcdf(tmp_path / "map.nc")
    assert xr.load_dataset(tmp_path / "map.nc").equals(carried)


def test_of_answers_that_match_the_longest_counts():
    lengths = xr.DataArray(
        [[1.0, 1, 1], [2, 2, 2], [np.nan, 3, 1]],
        dims=("hypothesis", "pair"),
        coords={"hypothesis": ["nothing", "program", "state_1"]},
    )
    matched = xr.ones_like(lengths) * [1, 1, 0]
    matched[1, 1] = 0
    followed = _followed(matched, lengths)
    assert list(followed["hypothesis"].values) == ["nothing", "program", "state_1", "other"]
    expected = [[0, 0, 0], [1, 0, 0], [np.nan, 1, 0], [0, 0, 1]]
    assert np.array_equal(followed, expected, equal_nan=True)


def test_composed_programs_need_those_they_call(bridge):
    model = bridge("nano")
    corpus = make_corpus(with_io=30, without_io=2, composed_with_io=30, seed=0)
    pairs = make_transfer_pairs(corpus, model, "with_io", n=40)
    rows = np.flatnonzero(pairs.corrupted.labels["family"] == "composed").tolist()
    assert rows
    base, source = pairs.corrupted.select(rows), pairs.clean.select(rows)
    library = [entry.program for entry in corpus.entries]
    carried = transfer_map(model, Pairs(source, base), roles=["answer"], layers=[0], library=library)
    assert carried.attrs["qualified"] == len(rows)
    with pytest.raises(PbbError, match="library"):
        transfer_map(model, Pairs(source, base), roles=["answer"], layers=[0])


def test_what_makes_no_map_is_refused(bridge, corpus):
    model = bridge("nano")
    pairs = make_transfer_pairs(corpus, model, "with_io", n=6)
    base, source = pairs.corrupted, pairs.clean
    with pytest.raises(PbbError, match="two hypotheses predict the same"):
        transfer_map(model, Pairs(base, base))
    with pytest.raises(PbbError, match="controls out of self, random"):
        transfer_map(model, Pairs(source, base), controls=["shuffled"])
    with pytest.raises(PbbError, match="settings must be SweepSettings"):
        transfer_map(model, Pairs(source, base), settings={"noising": True})
    with pytest.raises(PbbError, match="Unknown role 'subject'"):
        transfer_map(model, Pairs(source, base), roles=["subject"])
