"""On every family an opened model reads, answers and is patched as the bare model, one unpadded prompt at a time."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import D_VOCAB, FAMILIES, blocks, patched, recorded, small

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.sweep import SweepSettings

LENGTHS = (9, 4, 6)  # 4 is also the number of heads
GENERATOR = torch.Generator().manual_seed(1)
ROWS = [torch.randint(3, D_VOCAB, (n,), generator=GENERATOR) for n in LENGTHS]
OTHERS = [torch.where(torch.arange(len(row)) == 1, (row + 7) % 90 + 3, row) for row in ROWS]
PARALLEL = ("cohere", "falcon", "gptj", "neox")
MAMBA = "mamba"


def metric(logits):
    return logits[:, 5] - logits[:, 7]


@pytest.fixture(scope="module")
def opened():
    return functools.cache(lambda name: load_model(small(name)))


@pytest.fixture(scope="module")
def plain():
    return functools.cache(small)


def prompts(rows, side="right", spare=0) -> Prompts:
    """Rows of tokens as prompts with the roles `early`, their second token, and `answer`; `spare` columns pad all."""
    width = max(map(len, rows)) + spare
    tokens, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    starts = []
    for i, row in enumerate(rows):
        starts.append(0 if side == "right" else width - len(row))
        tokens[i, starts[-1] : starts[-1] + len(row)] = row
        mask[i, starts[-1] : starts[-1] + len(row)] = 1
    first = torch.tensor(starts)
    places = {"early": first + 1, "answer": first + torch.tensor([len(row) - 1 for row in rows])}
    spans = {role: torch.stack([place, place], 1) for role, place in places.items()}
    return Prompts(tokens, mask, spans, pd.DataFrame(index=range(len(rows))), tuple("x" * len(rows)))


def close(found, expected, tolerance=1e-4) -> bool:
    found, expected = np.asarray(found), np.asarray(expected)
    return bool(np.abs(found - expected).max() <= tolerance * max(expected.std(), 1e-6))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_unequal_lengths_are_read_as_each_alone(family, side, opened, plain):
    given = prompts(ROWS, side, spare=2)
    acts = pbb.capture(opened(family), given, ("resid_pre",), batch_size=2)["resid_pre"]
    logits = pbb.answer_logits(opened(family), given, batch_size=2)
    for i, row in enumerate(ROWS):
        inputs, expected = recorded(plain(family), row)
        assert close(logits[i], expected[-1])
        assert close(acts.isel(prompt=i).sel(role="early"), inputs[:, 1])
        assert close(acts.isel(prompt=i).sel(role="answer"), inputs[:, -1])
    assert not close(logits[0], logits[1], 0.1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sweep_is_that_of_plain_hooks(family, side, opened, plain):
    clean, corrupted = prompts(ROWS, side), prompts(OTHERS, side)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        effects = pbb.patch_sweep(opened(family), pbb.Pairs(clean, corrupted), metric=metric)
    moved = 0.0
    for pair, (row, other) in enumerate(zip(ROWS, OTHERS, strict=True)):
        inputs, logits = recorded(plain(family), row)
        begin = 0 if side == "right" else max(LENGTHS) - len(row)
        expected = [
            [metric(patched(plain(family), other, layer, at, inputs[layer, at])[None]) for at in range(len(row))]
            for layer in range(len(inputs))
        ]
        found = effects["resid_pre"].values[:, begin : begin + len(row), pair]
        assert np.abs(found - np.array(expected)[..., 0]).max() < 1e-4 * float(logits.std())
        moved = max(moved, float(np.std(expected)))
    assert moved > 0.05  # windows and chunks hide the token that differs from some of the rows
    # a slower engine is taken with its reason, and kept
    ways = [str(w.message) for w in said if "as exact but slower" in str(w.message)]
    assert len(ways) == {"fewer layers and positions": 0, "fewer layers": 1, "full forward": 2}[effects.attrs["method"]]
    assert ("passed_over" in effects.attrs) == bool(ways)
    assert all(effects.attrs["passed_over"].split(": ")[1] in way for way in ways[:1])


@pytest.mark.parametrize("memory", [2.0, 1e-6])
@pytest.mark.parametrize("family", ["gemma4", "zamba2", "llama"])
def test_blocks_that_are_given_something_of_each_row_get_that_of_their_own(family, memory, opened, plain):
    """Embeddings of the tokens themselves, in blocks behind the first: one pair alone, and pairs in chunks of one."""
    for rows, others in ((ROWS[:1], OTHERS[:1]), (ROWS, OTHERS)):
        effects = pbb.patch_sweep(
            opened(family),
            pbb.Pairs(prompts(rows), prompts(others)),
            metric=metric,
            sites=("resid_pre", "resid_post"),
            settings=SweepSettings(memory_gib=memory),
        )
        for pair, (row, other) in enumerate(zip(rows, others, strict=True)):
            inputs, logits = recorded(plain(family), row)
            for layer, at in ((1, 1), (2, 2)):
                expected = float(metric(patched(plain(family), other, layer, at, inputs[layer, at])[None]))
                for site, below in (("resid_pre", 0), ("resid_post", 1)):
                    found = float(effects[site].sel(layer=layer - below)[at, pair])
                    assert abs(found - expected) < 1e-4 * float(logits.std())


@pytest.mark.parametrize("site", ["q", "k"])
@pytest.mark.parametrize("family", ["olmo2", "olmo3"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_heads_behind_a_norm_over_all_of_them_are_not_those_of_the_hook(family, site, dtype):
    """What passes the hook is the projection; its norm mixes the heads, so that only a full forward will do."""
    with pytest.warns(UserWarning, match="normalised over all heads"):
        effects = pbb.patch_sweep(
            load_model(small(family), dtype=dtype),
            clean=ROWS[0][None],
            corrupted=OTHERS[0][None],
            metric=metric,
            sites=(site,),
        )
    assert effects.attrs["method"] == "full forward"
    if dtype is None:
        bare = small(family)
        projection = getattr(blocks(bare)[0].self_attn, f"{site}_proj")
        kept: list[torch.Tensor] = []
        handle = projection.register_forward_hook(lambda _, __, out: kept.append(out.clone()))
        with torch.inference_mode():
            bare(ROWS[0][None])
        handle.remove()

        def put(_, __, out):
            out[0, 1, :8] = kept[0][0, 1, :8]  # the first head's

        projection.register_forward_hook(put)
        with torch.inference_mode():
            expected = float(metric(bare(OTHERS[0][None]).logits[:, -1]))
        assert float(effects[site].values[0, 0, 1, 0]) == pytest.approx(expected, abs=1e-4)


def test_an_activation_that_is_no_sum_is_not_estimated(opened):
    given = {"clean": ROWS[0][None], "corrupted": OTHERS[0][None], "metric": metric, "sites": ("resid_mid",)}
    pbb.attribution_scores(opened("llama"), **given)
    with pytest.raises(PbbError, match="more than resid_mid and mlp_out together"):
        pbb.attribution_scores(opened("gemma4"), **given)


def test_widths_that_differ_between_layers_are_refused_in_words(opened):
    with pytest.raises(PbbError, match=r"activation q has the shape .* layers of one kind at a time"):
        pbb.capture(opened("gemma4"), prompts(ROWS), ("q",))
    assert pbb.capture(opened("gemma4"), prompts(ROWS), ("q",), layers=[0])["q"].sizes["d_head"] == 8


def test_tokens_that_a_model_lacks_are_refused(opened):
    far = torch.where(torch.arange(9) == 3, D_VOCAB, ROWS[0])[None]
    with pytest.raises(PbbError, match=f"from .* to {D_VOCAB}, and the model has those from 0 to {D_VOCAB - 1}"):
        pbb.patch_sweep(opened("llama"), clean=far, corrupted=OTHERS[0][None], metric=metric)


@pytest.mark.parametrize(
    ("family", "site", "module"),
    [
        ("granite", "attn_out", "self_attn"),
        ("granite", "mlp_out", "mlp"),
        ("llama4", "mlp_out", "feed_forward"),
        ("opt", "attn_out", "self_attn"),
        ("xglm", "attn_out", "self_attn"),
        ("mpt", "attn_out", "attn"),
        ("falcon", "attn_out", "self_attention"),
        ("gpt1", "attn_out", "attn"),
    ],
)
def test_the_output_of_a_component_is_swapped_on_models_no_quick_engine_takes_apart(
    family, site, module, opened, plain
):
    effects = pbb.patch_sweep(
        opened(family), clean=ROWS[0][None], corrupted=OTHERS[0][None], metric=metric, sites=(site,), layers=[1]
    )
    component = getattr(blocks(plain(family))[1], module)

    def output(result):
        return (result[0] if isinstance(result, (tuple, list)) else result).view(1, len(ROWS[0]), -1)

    kept: list[torch.Tensor] = []
    handle = component.register_forward_hook(lambda _, __, result: kept.append(output(result).clone()))
    with torch.inference_mode():
        plain(family)(ROWS[0][None])
    handle.remove()
    for position in range(len(ROWS[0])):

        def put(_, __, result, at=position):
            output(result)[0, at] = kept[0][0, at]

        handle = component.register_forward_hook(put)
        with torch.inference_mode():
            expected = metric(plain(family)(OTHERS[0][None]).logits[:, -1])
        handle.remove()
        assert np.allclose(effects[site].values[0, position], expected, rtol=1e-4, atol=1e-4)
    assert float(effects[site].std()) > 0


def test_latent_attention_has_other_axes_which_is_said(opened):
    for site in ("q", "k", "v", "z"):
        for ask in (
            lambda site: pbb.capture(opened("deepseek"), prompts(ROWS[1:2]), (site,)),
            lambda site: pbb.patch_sweep(
                opened("deepseek"), clean=ROWS[1][None], corrupted=OTHERS[1][None], metric=metric, sites=(site,)
            ),
        ):
            with pytest.raises(PbbError, match=rf"activation {site} at layer 0 has the shape"):
                ask(site)


@pytest.mark.parametrize(
    ("family", "site"), [*((family, "resid_mid") for family in PARALLEL), (MAMBA, "z"), (MAMBA, "attn_out")]
)
def test_a_site_that_is_not_there_is_refused_in_words(family, site, opened):
    for ask in (
        lambda: pbb.capture(opened(family), prompts(ROWS), (site,)),
        lambda: pbb.patch_sweep(
            opened(family), pbb.Pairs(prompts(ROWS), prompts(OTHERS)), metric=metric, sites=(site,)
        ),
    ):
        with pytest.raises(PbbError, match=f"This model has no site {site!r}"):
            ask()


def test_a_model_that_reads_both_ways_is_refused():
    with pytest.raises(PbbError, match="not causal"):
        load_model(small("bert"))


def test_an_unknown_attention_function_is_no_reason_to_fail(opened, monkeypatch):
    """Whatever an engine raises, the next one is asked; a lack of memory, bad input and an interrupt go through."""
    from pbb_probe.hooking.engines.blocks import WholeBlocks
    from pbb_probe.hooking.engines.tail import Tail

    given = {"clean": ROWS[0][None], "corrupted": OTHERS[0][None], "metric": metric}
    expected = pbb.patch_sweep(opened("llama"), **given)
    for error in (TypeError("a list"), AttributeError("no heads"), RuntimeError("shape"), KeyError("q"), ValueError()):

        def fail(*_, error=error, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Tail, "record", fail)
            with pytest.warns(UserWarning, match=type(error).__name__):
                found = pbb.patch_sweep(opened("llama"), **given)
        assert found.attrs["method"] == "fewer layers"
        assert type(error).__name__ in found.attrs["passed_over"]
        assert np.allclose(found["resid_pre"], expected["resid_pre"], atol=1e-5)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), KeyboardInterrupt()):

        def stop(*_, error=error, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(WholeBlocks, "record", stop)
            patch.setattr(Tail, "record", stop)
            with pytest.raises(type(error)):
                pbb.patch_sweep(opened("llama"), **given)


def test_a_metric_that_fails_says_so_itself(opened):
    def broken(logits):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pbb.patch_sweep(opened("llama"), clean=ROWS[0][None], corrupted=OTHERS[0][None], metric=broken)


def test_where_even_full_forwards_fail_a_sentence_says_why(opened, monkeypatch):
    from pbb_probe.hooking.engines.blocks import WholeBlocks
    from pbb_probe.hooking.engines.full import FullForward
    from pbb_probe.hooking.engines.tail import Tail

    def fail(*_, **__):
        raise TypeError("no such thing")

    for engine in (Tail, WholeBlocks, FullForward):
        monkeypatch.setattr(engine, "record", fail)
    with (
        pytest.raises(PbbError, match=r"cannot be patched, even by full forward passes .*no such thing"),
        pytest.warns(),
    ):
        pbb.patch_sweep(opened("llama"), clean=ROWS[0][None], corrupted=OTHERS[0][None], metric=metric)
