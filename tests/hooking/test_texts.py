"""Tokens as text, held to the tokenizer and to the bare model's softmax."""

import torch

import pbb_probe as pbb


def test_token_texts_leave_padding_out_whichever_side_it_is_on(bridge):
    model = bridge("llama")
    texts = ["a", "def f(x): return x"]
    for side in ("left", "right"):
        prompts = pbb.Prompts.from_texts(model, texts, padding_side=side)
        for row, text in enumerate(texts):
            assert "".join(pbb.token_texts(model, prompts, row)) == text


def test_likely_answers_are_the_bare_models(bridge, bare):
    model = bridge("llama")
    texts = ["def f(x):", "a"]
    table = pbb.likely_answers(model, pbb.Prompts.from_texts(model, texts), top=5)
    for i, text in enumerate(texts):
        logits = bare("llama")(**model.tokenizer(text, return_tensors="pt")).logits[0, -1]
        expected = logits.softmax(-1).topk(5)
        rows = table[table["prompt"] == i]
        assert rows["token"].tolist() == expected.indices.tolist()
        torch.testing.assert_close(torch.tensor(rows["probability"].tolist()), expected.values.double().float())
    assert all(answer == answer.strip() != "" for answer in table["answer"])
