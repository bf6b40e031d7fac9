"""Base models load by name, directory or hub id; whatever is wrong with one is said in a single sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.bases import load_base, load_tokenizer, resolve_base
from pbb_probe.programs.names import nonsense_words


@pytest.fixture
def copy(small_model, tmp_path) -> Path:
    """A copy of the small Llama to be damaged."""
    return Path(shutil.copytree(small_model("llama"), tmp_path / "model"))


def refusal(load, *args) -> str:
    """The message of the PbbError, which must be one line."""
    with pytest.raises(PbbError) as caught:
        load(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite_weights(directory: Path, change) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_nano_is_the_packaged_directory_and_reads_its_own_text(nano):
    directory = Path(resolve_base(nano))
    assert directory.parts[-3:] == ("pbb_probe", "assets", "nano")
    model, tokenizer = load_base(nano)
    stored = load_file(directory / "model.safetensors")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], weight.float()) for name, weight in stored.items())
    assert not model.training
    text = f"call {nonsense_words()[-1]} ( 3 ) ="
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == [tokenizer.convert_tokens_to_ids(word) for word in text.split()]
    assert tokenizer.unk_token_id not in ids


@pytest.mark.parametrize("as_path", [True, False])
def test_a_directory_gives_the_weights_stored_in_it(copy, as_path):
    model, tokenizer = load_base(copy if as_path else str(copy))
    reference = AutoModelForCausalLM.from_pretrained(copy).eval()
    tokens = tokenizer("call it", return_tensors="pt")["input_ids"]
    assert torch.equal(model(tokens).logits, reference(tokens).logits)
    assert tokenizer.decode(tokens[0]) == "call it"


def test_weights_are_loaded_in_the_type_asked_for(copy):
    model, _ = load_base(copy, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("base", ["./no-such-model", "~/no-such-model", Path("no-such-model")])
def test_an_unknown_directory_is_refused_before_the_hub_is_asked(base):
    for load in (resolve_base, load_base, load_tokenizer):
        assert "no-such-model" in refusal(load, base)
    assert "There is no model directory" in refusal(load_base, base)


@pytest.mark.parametrize("load", [load_base, load_tokenizer])
def test_an_unknown_hub_id_is_refused_without_a_network(load):
    assert "no-such-owner/no-such-model" in refusal(load, "no-such-owner/no-such-model")


def test_missing_weights_file_is_refused(copy):
    (copy / "model.safetensors").unlink()
    assert "cannot be loaded" in refusal(load_base, copy)


@pytest.mark.parametrize("size", [0, 7, 2000])
def test_truncated_weights_are_refused(copy, size):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert "cannot be loaded" in refusal(load_base, copy)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight", "lm_head.weight"])
def test_a_missing_weight_is_named(copy, name):
    rewrite_weights(copy, lambda weights: weights.pop(name))
    message = refusal(load_base, copy)
    assert name in message
    assert "1 weights" in message


def test_a_weight_of_another_shape_is_refused(copy):
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite_weights(copy, lambda weights: weights.update({name: torch.zeros(3, 3)}))
    refusal(load_base, copy)


def test_a_pickle_only_checkpoint_is_refused(copy):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    assert AutoModelForCausalLM.from_pretrained(copy) is not None  # it is a good checkpoint but for its format
    assert "safetensors" in refusal(load_base, copy)


@pytest.mark.parametrize("known", [True, False])
def test_code_that_a_model_brings_is_never_run(known, copy, monkeypatch):
    """Neither where transformers knows the architecture nor where it would ask, and somebody says yes."""
    (copy / "own.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
        "from transformers import LlamaConfig as Config, LlamaForCausalLM as Model\n"
        "from transformers import PreTrainedTokenizerFast as Tokenizer\n"
    )
    path = copy / "config.json"
    brought = {"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | brought | ({} if known else {"model_type": "own"})))
    path = copy / "tokenizer_config.json"
    brought = {"auto_map": {"AutoTokenizer": [None, "own.Tokenizer"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | brought))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    if known:
        load_base(copy)
    else:
        assert "cannot be loaded" in refusal(load_base, copy)
    assert not list(copy.rglob("ran"))


def test_a_missing_tokenizer_is_refused(copy):
    (copy / "tokenizer.json").unlink()
    for load in (load_base, load_tokenizer):
        assert "tokenizer" in refusal(load, copy)


def test_a_damaged_tokenizer_is_refused(copy):
    (copy / "tokenizer.json").write_text("{")
    assert "tokenizer" in refusal(load_tokenizer, copy)


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(copy):
    path = copy / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    tokenizer = load_tokenizer(copy)
    assert tokenizer.pad_token == "<eos>"
    rows = tokenizer(["a b", "a"], padding=True)["input_ids"]
    assert tokenizer.eos_token_id in rows[1]
