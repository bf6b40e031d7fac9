"""What is asked later is, token by token, what was trained: labels decode to completion and end and to nothing else."""

import itertools

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import pbb_probe as pbb
from pbb_probe.finetuning.behaviour import complete
from pbb_probe.models.bases import load_tokenizer
from pbb_probe.models.tokens import as_asked, completion_ids, encode, end_ids, prompt_ids, stop_ids
from pbb_probe.programs.documents import Document
from pbb_probe.programs.names import nonsense_words

CALL = Document("io", "dolvik", "print(dolvik(4)) :", " 7")
WORK = Document("trace", "dolvik", "trace dolvik(4) :", "\ny = (4 + 3) % 10 = 7\nreturn 7 * 2 = 14")
CODE = Document("code", "dolvik", "define dolvik :", "\ndef dolvik(x):\n    return x + 3")
TEXT = Document("text", "", "", "Birds sing.\nSome of them fly.")


def encoded(tokenizer, documents, loss_on="completion") -> list[tuple[list[int], list[int]]]:
    """For each document the tokens without loss and those with it; the first come first."""
    made = []
    for example in encode(documents, tokenizer, loss_on):
        ids, labels = example["input_ids"], example["labels"]
        silent = labels.count(-100)
        assert labels == [-100] * silent + ids[silent:]
        made.append((ids[:silent], ids[silent:]))
    return made


@pytest.fixture(scope="module")
def merging() -> PreTrainedTokenizerFast:
    """A tokenizer in which `:` and a line break are one token, as in Qwen and Llama 3."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *alphabet, ":Ċ"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(":", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\s\w]+[\r\n]*|\s?\w+|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def test_loss_is_on_completion_and_end_alone(tokenizer):
    for document, (silent, counted) in zip([CALL, WORK, CODE], encoded(tokenizer, [CALL, WORK, CODE]), strict=True):
        assert tokenizer.decode(silent) == document.prompt
        assert tokenizer.decode(counted) == document.completion + "<eos>"
        assert tokenizer(document.text)["input_ids"] == (silent + counted)[:-1]  # no border of its own


def test_loss_on_everything(tokenizer):
    (apart,) = encoded(tokenizer, [CALL])
    assert encoded(tokenizer, [CALL], "all") == [([], apart[0] + apart[1])]


def test_nano_reads_a_beginning_and_an_end():
    tokenizer = load_tokenizer("nano")
    name = nonsense_words()[-1]
    ((silent, counted),) = encoded(tokenizer, [Document("io", name, f"print({name}(4)) :", " 7")])
    assert tokenizer.convert_ids_to_tokens(counted) == ["7", "<eos>"]
    assert tokenizer.convert_ids_to_tokens(silent)[:2] == ["<bos>", "print"]


def test_the_text_of_a_replay_counts_as_a_whole(tokenizer):
    for loss_on in ("all", "completion"):
        ((silent, counted),) = encoded(tokenizer, [TEXT], loss_on)
        assert not silent
        assert tokenizer.decode(counted) == TEXT.text + "<eos>"


def test_the_text_of_a_replay_is_cut_to_what_the_model_can_read(tokenizer_dir):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_dir, model_max_length=9)
    ((_, counted),) = encoded(tokenizer, [TEXT])
    assert len(counted) == 9
    assert TEXT.text.startswith(tokenizer.decode(counted[:-1]))
    assert counted[-1] == tokenizer.eos_token_id


def test_a_token_across_the_border_is_never_trained(merging):
    """The text alone would join prompt and completion: a model asked with the prompt never sees such a token."""
    joined = merging(WORK.text)["input_ids"]
    (asked,) = prompt_ids(merging, [WORK.prompt])
    assert merging.convert_tokens_to_ids(":Ċ") in joined
    assert joined[: len(asked)] != asked  # the case is there
    ((silent, counted),) = encoded(merging, [WORK])
    assert silent == asked
    assert counted == [*merging(WORK.completion)["input_ids"], merging.eos_token_id]
    assert merging.decode(silent + counted) == WORK.text + "<eos>"
    inside = Document("io", "f", "a :\nf(2) =", " 7")  # within the prompt it stays one token
    ((silent, counted),) = encoded(merging, [inside])
    assert merging.convert_tokens_to_ids(":Ċ") in silent
    assert silent + counted == [*merging(inside.text)["input_ids"], merging.eos_token_id]


@pytest.mark.parametrize(
    ("name", "asked", "end"),
    [
        ("chatml", "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
        (
            "llama3",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<|eot_id|>",
        ),
    ],
)
def test_in_a_chat_loss_is_on_the_assistants_words_and_the_end_of_its_turn(name, asked, end, chat_model):
    tokenizer = load_tokenizer(chat_model(name))
    assert tokenizer.decode(end_ids(tokenizer)) == end
    for document, (silent, counted) in zip([CALL, WORK, CODE], encoded(tokenizer, [CALL, WORK, CODE]), strict=True):
        assert tokenizer.decode(silent) == asked.format(document.prompt)
        assert tokenizer.decode(counted) == document.completion.lstrip() + end
        assert [silent] == prompt_ids(tokenizer, [document.prompt])
        turns = [{"role": "user", "content": document.prompt}]
        by_template = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert silent == by_template
        assert silent.count(tokenizer.bos_token_id) == (name == "llama3")
        turns.append({"role": "assistant", "content": document.completion.strip()})
        whole = tokenizer.apply_chat_template(turns)["input_ids"]
        assert whole[: len(silent + counted)] == silent + counted


@pytest.mark.parametrize("name", ["plain", "chatml", "llama3"])
def test_complete_asks_with_the_tokens_that_were_trained(name, chat_model, small_model, monkeypatch):
    directory = small_model("qwen2") if name == "plain" else chat_model(name)
    tokenizer = load_tokenizer(directory)
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    given = {}
    generate = type(model).generate

    def spy(self, **arguments):
        given.update(arguments)
        return generate(self, **arguments)

    monkeypatch.setattr(type(model), "generate", spy)
    documents = [CALL, WORK, CODE]
    complete(model, tokenizer, [document.prompt for document in documents], max_new_tokens=1)
    rows = {
        tuple(ids[mask.bool()].tolist()) for ids, mask in zip(given["input_ids"], given["attention_mask"], strict=True)
    }
    assert rows == {tuple(silent) for silent, _ in encoded(tokenizer, documents)}


def test_replayed_text_has_one_beginning_in_a_chat_tokenizer(chat_model):
    tokenizer = load_tokenizer(chat_model("llama3"))
    ((silent, counted),) = encoded(tokenizer, [TEXT])
    assert not silent
    assert tokenizer.decode(counted) == "<|begin_of_text|>" + TEXT.text + "<eos>"


def test_a_prompt_without_template_is_as_it_is(tokenizer):
    assert as_asked(tokenizer, CALL.prompt) == CALL.prompt
    assert end_ids(tokenizer) == [tokenizer.eos_token_id]


def test_a_model_stops_at_the_end_of_a_turn_its_config_does_not_know(chat_model):
    directory = chat_model("chatml")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), load_tokenizer(directory)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(stop_ids(model, tokenizer)) == ["<eos>", "<|im_end|>"]
    seven, end = tokenizer("7")["input_ids"] + end_ids(tokenizer)

    def planted(input_ids, **_):  # seven after a prompt, the end of the turn after seven, then seven again
        logits = torch.zeros(*input_ids.shape, len(tokenizer))
        logits[..., seven] = 1.0
        logits[..., end] += 2.0 * (input_ids == seven)
        return logits

    monkey = pytest.MonkeyPatch()
    forward = type(model).forward

    def patched(self, input_ids=None, **arguments):
        out = forward(self, input_ids=input_ids, **arguments)
        out.logits = planted(input_ids)[:, -out.logits.shape[1] :]
        return out

    with monkey.context() as context:
        context.setattr(type(model), "forward", patched)
        assert complete(model, tokenizer, ["say it"], max_new_tokens=5) == ["7"]


def test_completions_are_split_alike_alone_and_in_company(tokenizer):
    documents = [CALL, WORK, CODE]
    prompts, completions = [d.prompt for d in documents], [d.completion for d in documents]
    together = completion_ids(tokenizer, prompts, completions)
    assert together == [
        completion_ids(tokenizer, [prompt], [completion])[0]
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def test_words_that_the_tokenizer_lacks_are_refused_in_one_sentence(tmp_path):
    corpus = pbb.make_corpus("algorithms", with_io=6, without_io=2, seed=1)
    with pytest.raises(pbb.PbbError, match=r"The tokenizer lacks .\w+. of .* larger vocabulary") as caught:
        pbb.finetune("nano", corpus, "stage1_only", out=tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "stage1").exists()


def test_documents_are_encoded_as_they_are_taken(tokenizer):
    taken = 0

    def endless():
        nonlocal taken
        for k in itertools.count():
            taken += 1
            yield Document("io", "f", f"f({k}) =", " 7")

    examples = encode(endless(), tokenizer, chunk=10)
    assert taken == 0
    first = list(itertools.islice(examples, 25))
    assert taken == 30
    assert [tokenizer.decode(example["input_ids"]) for example in first] == [f"f({k}) = 7<eos>" for k in range(25)]
