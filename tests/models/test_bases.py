"""Base models load by name, directory or hub id; whatever is wrong with one is said in a single sentence."""

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pbb_probe.errors import PbbError
from pbb_probe.models.adapters import load_adapter
from pbb_probe.models.bases import load_base, load_tokenizer, resolve_base
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


ODD_CONFIGS = {
    **{
        f"{n!r} layers": ({"num_hidden_layers": n}, "layers")
        for n in (-1, 0, 1, 4, 10**9, "3", 2.5, True, float("nan"))
    },
    "null layers": ({"num_hidden_layers": None}, "cannot be loaded"),
    "a width that heads do not divide": ({"hidden_size": 33}, "cannot be loaded"),
    "a huge width": ({"hidden_size": 2**31 - 8}, "weights"),
    "a negative width": ({"hidden_size": -32}, "hidden_size in"),
    "a huge vocabulary": ({"vocab_size": 10**9}, "weights"),
    "a vocabulary in words": ({"vocab_size": "many"}, "vocab_size in"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads in"),
    "no type": ({"model_type": None}, "cannot be loaded"),
    "an unknown type": ({"model_type": "oracle"}, "cannot be loaded"),
}


@pytest.mark.parametrize("name", ODD_CONFIGS)
def test_a_config_that_its_weights_do_not_bear_out_is_refused_unbuilt(name, copy):
    changes, words = ODD_CONFIGS[name]
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert words in refusal(load_base, copy)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@pytest.mark.parametrize("content", [b"", b"[]", b"[1]", b"3", b"null", b"{}", b"{", b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors.index.json"])
def test_files_that_are_no_json_objects_are_refused(content, file, copy):
    (copy / file).write_bytes(content)
    assert file in refusal(load_base, copy)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "..", "", None, 3])
def test_shards_outside_the_directory_are_refused(shard, copy):
    shutil.copy(copy / "model.safetensors", copy.parent)
    index = {"weight_map": dict.fromkeys(load_file(copy / "model.safetensors"), shard)}
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "shard" in refusal(load_base, copy)


def test_shards_beside_the_index_are_loaded(copy):
    weights = load_file(copy / "model.safetensors")
    AutoModelForCausalLM.from_pretrained(copy).save_pretrained(copy / "parts", max_shard_size="20KB")
    for path in copy.glob("*.json"):
        if not (copy / "parts" / path.name).exists():
            shutil.copy(path, copy / "parts")
    assert len(list((copy / "parts").glob("*.safetensors"))) > 1
    loaded = load_base(copy / "parts")[0].state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in weights.items())


def test_the_weights_of_another_model_are_refused(copy, small_model):
    shutil.copy(Path(small_model("gpt2")) / "model.safetensors", copy)
    refusal(load_base, copy)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"model": {}}', '{"model": {"type": "BPE", "vocab": 3}}', "\0"])
def test_a_tokenizer_of_another_shape_is_refused(content, copy):
    (copy / "tokenizer.json").write_text(content)
    assert "tokenizer" in refusal(load_tokenizer, copy)


@pytest.mark.parametrize("base", ["", "  ", "a\0b", "\ud800", 3, None, "x" * 300, "x" * 5000, "~nobody-of-this-name/x"])
def test_what_is_no_name_of_a_model_is_refused(base):
    for load in (resolve_base, load_tokenizer, load_base):
        refusal(load, base)


ODD_RANKS = {
    "a huge rank": {"r": 10**9},
    "a rank one above": {"r": 5},
    "a rank of 400 digits": {"r": 10**400},
    "a huge rank of one module": {"rank_pattern": {"q_proj": 10**9}},
    "layers without end": {"layer_replication": [[0, 10**9]]},
    "layers from far below": {"layer_replication": [[0, 2], [-(10**9), 2]]},
}


@pytest.mark.parametrize("name", ODD_RANKS)
def test_an_adapter_that_its_weights_do_not_bear_out_is_refused_unbuilt(name, copy):
    """Given as an adapter, and where transformers finds it: in the directory of a base."""
    adapted = get_peft_model(load_base(copy)[0], LoraConfig(r=4, target_modules=["q_proj"]))
    adapted.save_pretrained(copy)
    path = copy / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | ODD_RANKS[name]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert str(path) in refusal(load_base, copy)
    assert str(path) in refusal(load_adapter, load_base("nano")[0], copy)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
