"""What is put in, several metrics, chunks, a stopped sweep, and the slower ways: each against plain hooks by hand."""

import brute
import numpy as np
import pytest
import torch
import xarray as xr
from conftest import save_small_model
from transformer_lens.tools.analysis import interchange
from transformers import AutoModelForCausalLM, GPTJConfig

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines import choice
from pbb_probe.hooking.engines.blocks import WholeBlocks
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import UnsupportedError
from pbb_probe.hooking.engines.tail import Tail
from pbb_probe.hooking.load import load_model
from pbb_probe.patching import sweep as sweep_module
from pbb_probe.patching.metrics import (
    greedy_match,
    log_prob,
    log_prob_difference,
    logit_difference,
    negative_kl,
    probability,
)
from pbb_probe.patching.sweep import SweepSettings, patch_sweep

GENERATOR = torch.Generator().manual_seed(3)
CLEAN, CORRUPTED = (torch.randint(2, 340, (4, 7), generator=GENERATOR) for _ in range(2))
LAST = 6
ANSWERS = (torch.tensor([70, 31, 145, 9]), torch.tensor([211, 120, 46, 300]))
METRIC = logit_difference(*ANSWERS)
RUNS = {"clean": CLEAN, "corrupted": CORRUPTED, "metric": METRIC}
SITES = ("resid_pre", "mlp_out", "z", "v")


def of_pair(logits, pair):
    return logits[..., ANSWERS[0][pair]] - logits[..., ANSWERS[1][pair]]


def by_hand(model, put_of, site, base=CORRUPTED):
    """Effects [layer, head, position, pair] with `put_of(pair, layer)` [position, head, d_head] put in."""
    effects = np.zeros((3, brute.n_heads(model, site), 7, len(base)))
    for pair, layer in np.ndindex(len(base), 3):
        spans = [(position, position) for position in range(7)]
        logits = brute.patched_logits(model, base[pair], put_of(pair, layer), site, layer, spans)
        effects[layer, :, :, pair] = of_pair(logits[:, :, -1], pair).T
    return effects


def activations(model, rows, site):
    """[pair][layer] -> [position, head, d_head]"""
    return [[brute.activation(model, row, site, layer) for layer in range(3)] for row in rows]


def same(values, expected) -> bool:
    return bool(np.abs(values.reshape(expected.shape) - expected).max() < 1e-5 * max(expected.std(), 1))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("source", ["zero", "mean", "mean_difference", "own"])
def test_ablations_and_nulls(source, site, bridge, bare):
    model = bare("llama")
    clean, corrupted = activations(model, CLEAN, site), activations(model, CORRUPTED, site)

    def mean(found, layer):
        return torch.stack([pair[layer] for pair in found]).mean(0)

    puts = {
        "zero": lambda pair, layer: torch.zeros_like(clean[pair][layer]),
        "own": lambda pair, layer: corrupted[pair][layer],
        "mean": lambda _, layer: mean(clean, layer),
        "mean_difference": lambda pair, layer: corrupted[pair][layer] + mean(clean, layer) - mean(corrupted, layer),
    }
    effects = patch_sweep(bridge("llama"), **RUNS, sites=(site,), replace_with=source)
    expected = by_hand(model, puts[source], site)
    assert same(effects[site].values, expected)
    moved = np.abs(expected - effects["corrupted"].values).max()
    assert moved < 1e-4 if source == "own" else moved > 0.1


def test_a_random_vector_has_the_norm_of_the_change_and_stays_the_same_in_chunks(bridge, bare, monkeypatch):
    seen = []
    enter = Tail.enter

    def watched(self, window, site, layer, values, heads=None):
        own = window.states.at(site, layer)[window.rows, window.start : window.start + window.width]
        seen.append((layer, window.start, (values[0] - own).norm(dim=-1)[:, 0], window.rows))
        return enter(self, window, site, layer, values, heads)

    monkeypatch.setattr(Tail, "enter", watched)
    effects = patch_sweep(bridge("llama"), **RUNS, replace_with="random", seed=4)
    clean, corrupted = (activations(bare("llama"), rows, "resid_pre") for rows in (CLEAN, CORRUPTED))
    whole = [found for found in seen if len(found[2]) == 4]
    assert len(whole) >= 21
    for layer, position, norms, _ in whole:
        expected = [(clean[i][layer] - corrupted[i][layer])[position].norm().item() for i in range(4)]
        assert torch.allclose(norms, torch.tensor(expected), rtol=1e-4)
    again = patch_sweep(bridge("llama"), **RUNS, replace_with="random", seed=4, settings=SweepSettings(memory_gib=1e-5))
    assert np.allclose(effects["resid_pre"], again["resid_pre"], rtol=0, atol=1e-4)
    other = patch_sweep(bridge("llama"), **RUNS, replace_with="random", seed=5)
    assert np.abs(other["resid_pre"] - effects["resid_pre"]).max() > 0.1


@pytest.mark.parametrize("site", SITES)
def test_noising_patches_the_clean_run(site, bridge, bare):
    effects = patch_sweep(bridge("gpt2"), **RUNS, sites=(site,), noising=True)
    corrupted = activations(bare("gpt2"), CORRUPTED, site)
    expected = by_hand(bare("gpt2"), lambda pair, layer: corrupted[pair][layer], site, base=CLEAN)
    assert same(effects[site].values, expected)
    assert effects.attrs["direction"] == "noising"
    with torch.inference_mode():
        clean = [of_pair(bare("gpt2")(CLEAN).logits[i, -1], i).item() for i in range(4)]
    assert np.allclose(effects["clean"], clean, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def other_llama(tokenizer, tmp_path_factory):
    """A Llama of the same shape with other weights: opened, and bare."""
    directory = tmp_path_factory.mktemp("other")
    torch.manual_seed(1)
    path = save_small_model("llama", tokenizer, directory)
    hf = AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.mul_(1.1)
    hf.save_pretrained(path)
    return load_model(path), AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()


@pytest.mark.parametrize("site", ["resid_pre", "mlp_out", "z", "q", "k"])
def test_between_models(site, bridge, bare, other_llama):
    opened, plain = other_llama
    given = activations(plain, CORRUPTED, site)
    effects = patch_sweep(
        bridge("llama"), clean=CORRUPTED, corrupted=CORRUPTED, metric=METRIC, sites=(site,), donor_model=opened
    )
    expected = by_hand(bare("llama"), lambda pair, layer: given[pair][layer], site)
    assert same(effects[site].values, expected)
    assert effects.attrs["method"] == "fewer layers and positions"
    with torch.inference_mode():
        for end, model in (("clean", plain), ("corrupted", bare("llama"))):  # each model's own unpatched run
            own = [of_pair(model(CORRUPTED).logits[i, -1], i).item() for i in range(4)]
            assert np.allclose(effects[end], own, rtol=0, atol=1e-5)
    assert np.abs(effects["clean"] - effects["corrupted"]).min() > 1e-3


def test_between_models_prompts_may_differ_too(bridge, bare, other_llama):
    """Where the tokens are still the same the models differ already."""
    opened, plain = other_llama
    clean = CORRUPTED.clone()
    clean[[0, 2], 5] = torch.tensor([17, 230])
    given = activations(plain, clean, "resid_pre")
    effects = patch_sweep(bridge("llama"), clean=clean, corrupted=CORRUPTED, metric=METRIC, donor_model=opened)
    expected = by_hand(bare("llama"), lambda pair, layer: given[pair][layer], "resid_pre")
    assert same(effects["resid_pre"].values, expected)
    assert effects.attrs["method"] == "fewer layers and positions"


def test_subspaces_move_only_their_component(bridge, bare):
    basis = torch.linalg.qr(torch.randn(3, 7, 32, 5, generator=torch.Generator().manual_seed(0))).Q
    effects = patch_sweep(bridge("llama"), **RUNS, subspaces={"resid_pre": basis})
    clean, corrupted = (activations(bare("llama"), rows, "resid_pre") for rows in (CLEAN, CORRUPTED))

    def put(pair, layer):
        change = (clean[pair][layer] - corrupted[pair][layer])[:, 0]  # [position, d_model]
        inside = torch.einsum("pd,pdr,per->pe", change, basis[layer], basis[layer])
        return corrupted[pair][layer] + inside[:, None]

    assert same(effects["resid_pre"].values, by_hand(bare("llama"), put, "resid_pre"))
    with pytest.raises(PbbError, match="orthonormal"):
        patch_sweep(bridge("llama"), **RUNS, subspaces={"resid_pre": 2 * basis})
    with pytest.raises(PbbError, match="must be a basis"):
        patch_sweep(bridge("llama"), **RUNS, subspaces={"resid_pre": basis[:2]})


@pytest.mark.parametrize("source", ["other", "random"])
def test_transformer_lens_supplies_subspaces_and_their_placebos(source, bridge, monkeypatch):
    """Of a probe, learned, and of means, at one place, against its own interchange."""
    model, layer, position = bridge("llama"), 1, 4
    name, places = f"blocks.{layer}.hook_resid_pre", torch.full((len(CLEAN),), position)

    def logits_of(rows):
        return model(rows)[:, -1]

    given = interchange.collect_activations(model, name, CLEAN, logits_of, positions=places)
    own = interchange.collect_activations(model, name, CORRUPTED, logits_of, positions=places)
    targets = logits_of(CLEAN).argmax(-1)
    learned = interchange.fit_das(
        model,
        name,
        CORRUPTED,
        CLEAN,
        targets,
        logits_of,
        rank=3,
        base_positions=places,
        source_positions=places,
        epochs=5,
    )
    generator = torch.Generator().manual_seed(1)
    bases = {
        "DAS": learned.basis,
        "probe": interchange.probe_basis(torch.randn(4, 32, generator=generator)),
        "means": interchange.mean_difference_basis(torch.cat([own, given]), [0] * len(own) + [1] * len(given)),
    }
    drawn = interchange.random_basis
    for kind, basis in bases.items():
        found = []
        monkeypatch.setattr(interchange, "random_basis", lambda *a, **k: found.append(drawn(*a, **k)) or found[-1])
        effects = patch_sweep(
            model,
            **RUNS,
            positions=[position],
            layers=[layer],
            subspaces={"resid_pre": basis[None, None]},
            replace_with=source,
        )
        step = interchange.SubspaceInterchange(basis)
        if source == "random":
            step = interchange.NormMatchedPlacebo(step, found[-1])
            assert found[-1].shape == basis.shape
        logits = interchange.intervened_logits(model, name, step, CORRUPTED, given, logits_of, positions=places)
        assert same(effects["resid_pre"].values[0, 0], METRIC(logits).numpy()), kind


def test_several_metrics_in_one_pass_are_each_alone(bridge):
    with torch.inference_mode():
        reference = bridge("llama")(CLEAN)[:, -1]
    long = torch.tensor([[7, 12, 99], [300, -1, -1], [45, 46, -1], [8, 9, -1]])
    metrics = {
        "difference": METRIC,
        "probability": probability(ANSWERS[0]),
        "kl": negative_kl(reference),
        "answer": log_prob(long),
        "both": log_prob_difference(long, ANSWERS[1][:, None]),
        "greedy": greedy_match(long),
    }
    runs = {"clean": CLEAN, "corrupted": CORRUPTED, "sites": ("resid_pre", "z")}
    together = patch_sweep(bridge("llama"), **runs, metric=metrics)
    assert together["resid_pre"].dims == ("metric", "layer", "position", "pair")
    for name, metric in metrics.items():
        alone = patch_sweep(bridge("llama"), **runs, metric=metric)
        xr.testing.assert_allclose(together.sel(metric=name, drop=True), alone, atol=1e-5)
    assert np.abs(together["clean"].sel(metric="kl")).max() < 1e-5
    assert np.allclose(together["clean"].sel(metric="probability"), reference.softmax(-1)[range(4), ANSWERS[0]])
    assert len(np.unique(together["resid_pre"].values.round(3))) > 100


def test_greedy_match_by_hand():
    logits = torch.zeros(3, 2, 5)
    logits[0, 0, 3] = logits[0, 1, 1] = logits[1, 0, 3] = logits[2, 0, 4] = 1.0
    ids = torch.tensor([[3, 1], [3, 1], [4, -1]])
    metric = greedy_match(ids)
    assert metric.measure(logits, metric.ids).tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("memory_gib", [1e-6, 2e-4, 1e-3])
def test_less_memory_gives_the_same_numbers(memory_gib, bridge, monkeypatch):
    sites = ("resid_pre", "attn_out", "z", "k")
    long = log_prob(torch.tensor([[7, 12], [300, -1], [45, 46], [8, 9]]))
    metrics = {"difference": METRIC, "answer": long}
    runs = {"clean": CLEAN, "corrupted": CORRUPTED, "metric": metrics, "sites": sites}
    plenty = patch_sweep(bridge("llama"), **runs)
    batches = []
    record = Tail.record
    monkeypatch.setattr(
        Tail, "record", lambda self, tokens, *a: batches.append(len(tokens)) or record(self, tokens, *a)
    )
    little = patch_sweep(bridge("llama"), **runs, settings=SweepSettings(memory_gib=memory_gib))
    assert (max(batches) < 4) == (memory_gib < 1e-3)  # the pairs really were recorded in chunks
    xr.testing.assert_allclose(little, plenty, atol=2e-5)
    budgets = [SweepSettings(memory_gib=memory) for memory in (memory_gib, 2.0)]
    means = [patch_sweep(bridge("llama"), **RUNS, replace_with="mean", settings=budget) for budget in budgets]
    xr.testing.assert_allclose(*means, atol=2e-5)


def test_only_some_cells(bridge):
    everything = patch_sweep(bridge("llama"), **RUNS, sites=("resid_pre", "z"))
    rng = np.random.default_rng(0)
    only = everything.isel(pair=0, drop=True)[["resid_pre", "z"]].map(lambda v: v.copy(data=rng.random(v.shape) < 0.3))
    some = patch_sweep(bridge("llama"), **RUNS, sites=("resid_pre", "z"), settings=SweepSettings(only=only))
    for site in ("resid_pre", "z"):
        chosen = only[site].values
        assert np.isnan(some[site].values[~chosen]).all()
        assert np.allclose(some[site].values[chosen], everything[site].values[chosen], rtol=0, atol=1e-5)
    with pytest.raises(PbbError, match="dimensions"):
        patch_sweep(bridge("llama"), **RUNS, settings=SweepSettings(only=only.rename(layer="depth")))


# A stopped sweep


def test_a_stopped_sweep_goes_on_and_ends_with_the_same(bridge, tmp_path, monkeypatch):
    runs = RUNS | {"sites": ("resid_pre", "z")}
    whole = patch_sweep(bridge("llama"), **runs)
    entered = []
    enter = Tail.enter

    def stops(self, window, site, layer, *rest):
        if layer == 1:
            raise KeyboardInterrupt
        return enter(self, window, site, layer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "check_against_full_forward", lambda *_: None)
        patch.setattr(Tail, "enter", stops)
        with pytest.raises(KeyboardInterrupt):
            patch_sweep(bridge("llama"), **runs, settings=SweepSettings(resume=tmp_path))
    assert len(list(tmp_path.glob("[!.]*.safetensors"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "check_against_full_forward", lambda *_: None)
        patch.setattr(Tail, "enter", lambda *a: entered.append(a[3]) or enter(*a))
        again = patch_sweep(bridge("llama"), **runs, settings=SweepSettings(resume=tmp_path))
    assert set(entered) == {1, 2}
    xr.testing.assert_allclose(again, whole, atol=1e-5)


def test_layers_of_another_model_or_metric_are_not_taken(bridge, other_llama, tmp_path):
    settings = SweepSettings(resume=tmp_path)
    patch_sweep(bridge("llama"), **RUNS, settings=settings)
    with pytest.raises(PbbError, match="another model or metric"):
        patch_sweep(other_llama[0], **RUNS, settings=settings)
    with pytest.raises(PbbError, match="another model or metric"):
        patch_sweep(bridge("llama"), **RUNS | {"metric": lambda logits: logits[:, 5]}, settings=settings)
    moved = RUNS | {"clean": CLEAN.flip(0), "corrupted": CORRUPTED.flip(0)}  # other pairs have files of their own
    xr.testing.assert_allclose(
        patch_sweep(bridge("llama"), **moved, settings=settings), patch_sweep(bridge("llama"), **moved), atol=1e-5
    )


# The slower ways


@pytest.fixture(scope="module")
def gptj(tmp_path_factory):
    """A GPT-J, whose attention does not go through transformers' interface: opened, and bare."""
    config = GPTJConfig(
        vocab_size=360, n_embd=32, n_layer=3, n_head=4, rotary_dim=4, n_positions=64, initializer_range=0.3
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("gptj")
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    plain = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()
    return load_model(AutoModelForCausalLM.from_pretrained(path).eval()), plain


def test_attention_that_cannot_be_taken_apart_keeps_all_positions(gptj):
    opened, plain = gptj
    effects = patch_sweep(opened, **RUNS, sites=("resid_pre", "resid_post", "mlp_out"))
    assert effects.attrs["method"] == "fewer layers"
    places = {
        "resid_pre": lambda layer: (plain.transformer.h[layer], True),
        "resid_post": lambda layer: (plain.transformer.h[layer], False),
        "mlp_out": lambda layer: (plain.transformer.h[layer].mlp, False),
    }
    for site, find in places.items():
        for layer, position in np.ndindex(3, 7):
            module, is_input = find(layer)
            kept = []

            def catch(_, args, output=None):
                value = args[0] if output is None else output
                kept.append((value[0] if isinstance(value, tuple) else value).clone())

            def put(_, args, output=None):
                value = args[0] if output is None else output
                hidden = (value[0] if isinstance(value, tuple) else value).clone()
                hidden[:, position] = kept[0][:, position]
                if output is None:
                    return (hidden, *args[1:])
                return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

            register = module.register_forward_pre_hook if is_input else module.register_forward_hook
            with torch.inference_mode():
                handle = register(catch)
                plain(CLEAN)
                handle.remove()
                handle = register(put)
                logits = plain(CORRUPTED).logits[:, -1]
                handle.remove()
            expected = METRIC(logits).numpy()
            assert np.allclose(effects[site].values[layer, position], expected, rtol=0, atol=2e-5)


def test_sites_within_such_attention_take_the_full_forward(gptj):
    effects = patch_sweep(gptj[0], **RUNS, sites=("resid_pre", "z"))
    assert effects.attrs["method"] == "full forward"
    alone = patch_sweep(gptj[0], **RUNS, sites=("resid_pre",))
    assert np.allclose(effects["resid_pre"], alone["resid_pre"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "resid_mid", "z", "q", "k", "v"])
def test_every_way_gives_the_same(site, bridge, monkeypatch):
    expected = patch_sweep(bridge("gemma2"), **RUNS, sites=(site,))
    assert expected.attrs["method"] == "fewer layers and positions"
    for engine in (WholeBlocks, FullForward):
        monkeypatch.setattr(choice, "ENGINES", tuple(dict.fromkeys((engine, FullForward))))
        found = patch_sweep(bridge("gemma2"), **RUNS, sites=(site,))
        assert found.attrs["method"] == ("full forward" if site in "zqkv" else engine.method)
        xr.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_engine_that_is_wrong_is_found_out(bridge, monkeypatch):
    """The check before each sweep: a tail that forgets the mask is not used."""
    from pbb_probe.hooking.engines import attention as module

    right = patch_sweep(bridge("llama"), **RUNS)
    whole = module.attention

    def forgetful(query, shared, new, mask, *rest):
        return whole(query, shared, new, mask * (0 if shared is not None else 1), *rest)

    monkeypatch.setattr(module, "attention", forgetful)
    found = patch_sweep(bridge("llama"), **RUNS)
    assert found.attrs["method"] == "fewer layers"
    xr.testing.assert_allclose(found, right, atol=1e-5)


def test_the_engine_refuses_attention_it_does_not_know(bridge):
    tail = Tail(bridge("llama"))
    query = torch.zeros(1, 4, 2, 8)
    with pytest.raises(UnsupportedError, match="sinks"):
        tail._attention(None, query, query, query, torch.zeros(1, 1, 2, 2), sinks=torch.zeros(4))


def test_the_model_is_left_as_it_was(bridge):
    model = bridge("mistral")
    with torch.inference_mode():
        before, _ = model.run_with_cache(CLEAN)  # which makes transformers install hooks of its own, once
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    parameters = {name: (p.data_ptr(), p.requires_grad) for name, p in model.named_parameters()}
    patch_sweep(model, **RUNS, sites=("resid_mid", "z", "v"))
    with torch.inference_mode():
        assert torch.equal(model(CLEAN), before)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == hooks
    assert {name: (p.data_ptr(), p.requires_grad) for name, p in model.named_parameters()} == parameters
    assert model.original_model.config._attn_implementation != "pbb_probe"


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replace_with": "median"}, "Unknown replace_with 'median'"),
        ({"clean": torch.cat([CORRUPTED[:1], CLEAN[1:]])}, "Pair 0 has the same tokens"),
        ({"metric": {}}, "no metric"),
        ({"metric": {"a": METRIC, "b": lambda logits: logits}}, "one a pair"),
        ({"sites": ("q",), "replace_with": "random"}, "q is patched with its position embedding"),
        ({"clean": CLEAN[0], "corrupted": CORRUPTED[0]}, r"token ids \[pair, position\]"),
    ],
)
def test_bad_arguments_are_one_sentence(change, message, bridge):
    with pytest.raises(PbbError, match=message):
        patch_sweep(bridge("llama"), **RUNS | change)


def test_a_model_in_train_mode_is_refused(small_model):
    model = load_model(small_model("llama"))
    model.train()
    with pytest.raises(PbbError, match="train mode"):
        patch_sweep(model, **RUNS)


def test_a_donor_model_of_another_shape_is_refused(bridge):
    with pytest.raises(PbbError, match="donor_model has other"):
        patch_sweep(bridge("llama"), **RUNS, donor_model=bridge("nano"))


def test_answers_with_the_same_first_token_are_refused():
    with pytest.raises(PbbError, match="Both answers of pair 1 begin with the same token"):
        logit_difference(torch.tensor([1, 2]), torch.tensor([3, 2]))
