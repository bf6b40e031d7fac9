"""The tokens asked are those of the given tokenizer, unchanged, wherever a prompt is read."""

import copy
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationMixin

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.finetuning.behaviour import evaluate
from pbb_probe.hooking.load import load_model, untrained_model
from pbb_probe.models.tokens import encode
from pbb_probe.programs.documents import Document
from pbb_probe.views.explorer import live
from pbb_probe.views.explorer.recorded import named, value_of
from pbb_probe.views.explorer.recorded import pbb as pbb_

CLASSES = ("GPT2Tokenizer", "GPTNeoXTokenizer", "Qwen2Tokenizer", "LlamaTokenizer", "PreTrainedTokenizerFast")
TEXTS = ["run dolvik(7) :", "the value of zabrut(4) is", "x"]


@pytest.fixture
def saved(small_model, tmp_path):
    """`saved(name)`: a model directory whose tokenizer is of a class with a BOS token, or begins and ends texts."""

    def make(name: str) -> str:
        directory = shutil.copytree(small_model("llama"), tmp_path / name)
        path = directory / "tokenizer_config.json"
        config = json.loads(path.read_text()) | {"bos_token": "<eos>", "unk_token": "<pad>"}
        if name in CLASSES:
            path.write_text(json.dumps(config | {"tokenizer_class": name}))
            return str(directory)
        if name != "plain":
            tokenizer = AutoTokenizer.from_pretrained(directory)
            template = {"begins": "<eos> $A", "ends": "$A <eos>", "begins and ends": "<eos> $A <eos>"}[name]
            tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
                single=template, special_tokens=[("<eos>", tokenizer.eos_token_id)]
            )
            tokenizer.save_pretrained(directory)
        return str(directory)

    return make


def state(tokenizer):
    """All that is known of a tokenizer."""
    return copy.deepcopy(
        (
            tokenizer.special_tokens_map,
            tokenizer.get_vocab(),
            tokenizer.padding_side,
            tokenizer.chat_template,
            tokenizer(TEXTS)["input_ids"],
            tokenizer.backend_tokenizer.to_str(),
        )
    )


@pytest.mark.parametrize("name", [*CLASSES, "plain", "begins", "ends", "begins and ends"])
def test_an_opened_directory_reads_the_tokens_of_hugging_face(name, saved):
    directory = saved(name)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    if name in CLASSES:
        assert tokenizer.bos_token == "<eos>"
        assert tokenizer.bos_token_id not in tokenizer("run it")["input_ids"]
    expected = [ids[:-1] if "ends" in name else ids for ids in tokenizer(TEXTS)["input_ids"]]  # the text goes on
    model = load_model(directory)
    prompts = pbb.Prompts.from_texts(model, TEXTS, roles={"first": [(0, 1)] * 3})
    found = [row[mask.bool()].tolist() for row, mask in zip(prompts.tokens, prompts.attention_mask, strict=True)]
    assert found == expected
    assert [model.to_tokens(text)[0].tolist() for text in TEXTS] == expected
    assert prompts.roles["answer"].tolist() == [len(ids) - 1 for ids in expected]
    assert prompts.roles["first"].tolist() == [1 if "begins" in name else 0] * 3
    bare = AutoModelForCausalLM.from_pretrained(directory).eval()
    with torch.inference_mode():
        logits = pbb.answer_logits(model, prompts)
        for row, ids in zip(logits, expected, strict=True):
            assert torch.allclose(row, bare(torch.tensor([ids])).logits[0, -1], atol=1e-4)


@pytest.mark.parametrize("pad", ["<pad>", None])
def test_the_users_tokenizer_is_kept_as_it_is(pad, small_model, saved):
    tokenizer = AutoTokenizer.from_pretrained(saved("GPT2Tokenizer"))
    tokenizer.pad_token = pad
    tokenizer.name_or_path = ""  # made in memory: it cannot be loaded again by its name
    before = state(tokenizer)
    for _ in range(2):
        model = load_model(AutoModelForCausalLM.from_pretrained(small_model("llama")), tokenizer)
        assert model.tokenizer is tokenizer
        assert untrained_model(model).tokenizer is tokenizer
        prompts = pbb.Prompts.from_texts(model, TEXTS)
        assert prompts.attention_mask.sum(1).tolist() == [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]
        assert state(tokenizer) == before


def test_tokens_added_in_memory_stay(small_model):
    tokenizer = AutoTokenizer.from_pretrained(small_model("llama"))
    tokenizer.add_tokens(["dolvik"])
    hf_model = AutoModelForCausalLM.from_pretrained(small_model("llama"))
    short = load_model(hf_model, tokenizer)
    with pytest.raises(PbbError, match="resize its embeddings to the tokenizer"):
        pbb.Prompts.from_texts(short, TEXTS)
    hf_model = AutoModelForCausalLM.from_pretrained(small_model("llama"))
    hf_model.resize_token_embeddings(len(tokenizer))
    prompts = pbb.Prompts.from_texts(load_model(hf_model, tokenizer), TEXTS)
    assert tokenizer.convert_tokens_to_ids("dolvik") in prompts.tokens[0].tolist()


@pytest.mark.parametrize("name", ["plain", "GPT2Tokenizer", "begins", "ends", "begins and ends", "chatml", "llama3"])
def test_evaluation_capture_patching_and_explorer_ask_the_same_tokens(name, saved, chat_model, corpus, monkeypatch):
    directory = chat_model(name) if name in ("chatml", "llama3") else saved(name)
    calls = corpus.calls("direct", n=6, seed=3)
    asked: dict[str, set] = {key: set() for key in ("evaluate", "capture", "patch_sweep", "explorer")}

    def generate(self, input_ids, attention_mask, **_):
        for row, mask in zip(input_ids, attention_mask, strict=True):
            asked["evaluate"].add(tuple(row[mask.bool()].tolist()))
        return torch.cat([input_ids, input_ids[:, -1:]], 1)

    with monkeypatch.context() as patch:
        patch.setattr(GenerationMixin, "generate", generate)
        evaluate(directory, corpus, modes=("direct",), n=6, seed=3)

    model = load_model(directory)
    prompts = pbb.make_prompts(corpus, model, n=6, seed=3)
    lengths = set(prompts.attention_mask.sum(1).tolist())
    read: list[torch.Tensor] = []  # whatever is embedded, in the bridge and in the model inside it
    whole = torch.nn.functional.embedding
    monkeypatch.setattr(
        torch.nn.functional, "embedding", lambda ids, *rest, **more: (read.extend(ids), whole(ids, *rest, **more))[1]
    )

    def among(expected) -> set:
        """Those of the rows that were read with which these prompts begin, cut to their lengths."""
        rows = {tuple(row[:n].tolist()) for row in read for n in lengths if n <= len(row)}
        return rows & expected

    expected = {
        tuple(row[mask.bool()].tolist()) for row, mask in zip(prompts.tokens, prompts.attention_mask, strict=True)
    }
    pbb.capture(model, prompts)
    asked["capture"] = among(expected)
    read.clear()
    pbb.patch_sweep(
        model, pbb.Pairs(prompts, prompts), metric=lambda logits: logits[:, 7], replace_with="own", positions=["answer"]
    )
    asked["patch_sweep"] = among(expected)
    run = SimpleNamespace(call=lambda *_: None, corpus=corpus)
    explored = SimpleNamespace(model=lambda: named(pbb_, "model", model), recorded=lambda: named(pbb_, "run", run))
    for i in range(len(calls)):
        run.call = lambda *_, i=i: calls.iloc[i : i + 1].reset_index(drop=True)
        one = value_of(live.prompt_of(explored, live.Call("", "", "")))
        asked["explorer"].add(tuple(one.tokens[0][one.attention_mask[0].bool()].tolist()))
    assert len(expected) > 6
    assert asked == dict.fromkeys(asked, expected)
    # and they are what was trained: the document begins with them and goes on with the answer
    documents = [Document("io", "", p, c) for p, c in zip(calls["prompt"], calls["completion"], strict=True)]
    trained = [tuple(row["input_ids"]) for row in encode(documents, model.tokenizer)]
    answers = pbb.answer_ids(model, prompts, prompts.labels["output"]).tolist()
    for row, mask, answer, document in zip(prompts.tokens, prompts.attention_mask, answers, trained, strict=True):
        whole = (*row[mask.bool()].tolist(), *(i for i in answer if i >= 0))
        assert document[: len(whole)] == whole
        assert len(document) > len(whole)


def test_roles_need_a_tokenizer_that_knows_its_characters(small_model, bare):
    class Slow:
        is_fast, pad_token_id, unk_token_id, eos_token_id, bos_token_id = False, 0, None, 1, None
        eos_token, bos_token, chat_template = "<eos>", None, None

        def __call__(self, texts, **kwargs):
            rows = [[5 + ord(letter) % 90 for letter in text] for text in texts]
            return {"input_ids": rows, "special_tokens_mask": [[0] * len(row) for row in rows]}

        def encode(self, text):
            return self([text])["input_ids"][0]

    model = load_model(AutoModelForCausalLM.from_pretrained(small_model("llama")), Slow())
    assert pbb.Prompts.from_texts(model, ["abc", "d"]).attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    with pytest.raises(PbbError, match="roles need: load its fast version"):
        pbb.Prompts.from_texts(model, ["abc"], roles={"b": [(1, 2)]})
