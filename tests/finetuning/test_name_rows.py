"""Names learn faster: their rows move `name_rate` times as far in each step, and all else as without it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import pbb_probe as pbb
from pbb_probe.finetuning.config import LoraSettings, TrainConfig
from pbb_probe.finetuning.curricula import Portion, Stage
from pbb_probe.finetuning.name_rows import single_tokens
from pbb_probe.finetuning.train import train_stage
from pbb_probe.models.bases import load_base, resolve_base

ONE_STEP = Stage("one", ((Portion("with_io", "io", 1),),))
EMBEDDINGS = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def few():
    return pbb.make_corpus(with_io=4, without_io=2, seed=3)


def weights(directory) -> dict[str, torch.Tensor]:
    return load_file(Path(directory) / "model.safetensors")


def trained(corpus, folder, **config) -> dict[str, torch.Tensor]:
    settings = TrainConfig(batch_size=8, learning_rate=1e-3, warmup=0.0, **config)
    return weights(train_stage("nano", corpus, ONE_STEP, folder, config=settings))


def test_one_step_moves_the_rows_of_names_further_and_nothing_else(few, tmp_path):
    base = weights(resolve_base("nano"))
    plain, faster = (trained(few, tmp_path / str(rate), name_rate=rate) for rate in (1.0, 7.5))
    _, tokenizer = load_base("nano")
    rows = tokenizer.convert_tokens_to_ids([entry.program.name for entry in few.entries])  # of programs not read, too
    step = plain[EMBEDDINGS] - base[EMBEDDINGS]
    assert step[rows].abs().amax(1).min() > 0
    expected = base[EMBEDDINGS] + step
    expected[rows] = base[EMBEDDINGS][rows] + 7.5 * step[rows]
    torch.testing.assert_close(faster[EMBEDDINGS], expected, atol=1e-7, rtol=0)
    assert all(torch.equal(plain[name], faster[name]) for name in plain.keys() - {EMBEDDINGS, "lm_head.weight"})


def test_a_rate_of_zero_keeps_names_as_they_were(few, tmp_path):
    _, tokenizer = load_base("nano")
    rows = tokenizer.convert_tokens_to_ids([entry.program.name for entry in few.entries])
    kept = trained(few, tmp_path / "kept", name_rate=0.0)[EMBEDDINGS]
    assert torch.equal(kept[rows], weights(resolve_base("nano"))[EMBEDDINGS][rows])


def test_an_adapter_leaves_the_embeddings_alone(few, tmp_path):
    same = [trained(few, tmp_path / str(rate), lora=LoraSettings(rank=2), name_rate=rate) for rate in (1.0, 30.0)]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_only_names_of_one_token_are_faster():
    vocabulary = {token: i for i, token in enumerate(["b", "i", "m", "\u0120", "bi", "bim", "\u0120bim"])}  # G: a space
    merges = [("b", "i"), ("bi", "m"), ("\u0120", "bim")]
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    assert single_tokens(["bim", "mib"], tokenizer) == [5, 6]  # at the start of a text, and behind a space
    assert single_tokens(["mib"], tokenizer) == []


def test_names_that_the_tokenizer_does_not_know_are_no_tokens():
    assert single_tokens(["nosuchname"], load_base("nano")[1]) == []
