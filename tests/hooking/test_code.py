"""Tokens of code, put together, are the code; each has the line, the node and the run that its characters have.

Nano does not run code as it reads it: what a line does is known at its tokens only where it stands written there.
"""

import ast
import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pbb_probe.errors import PbbError
from pbb_probe.evidence.nodes import by_node
from pbb_probe.finetuning import behaviour
from pbb_probe.hooking.answers import answer_ids
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.code import code_prompts, code_tokens
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.positions import capture_tokens
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.metrics import answer_difference, recovery
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import patch_sweep
from pbb_probe.probing.linear import fit_probes
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.targets import line_targets
from pbb_probe.statistics.groups import interval_table

TARGETS = ["executed", "next_line", "variable", "value", "type", "times"]


@pytest.fixture(scope="module")
def corpora():
    shapes = ("two_steps", "conditional", "loop", "nested")
    return {
        "arithmetic": make_corpus(with_io=12, without_io=4, shapes=shapes),
        "algorithms": make_corpus("algorithms", with_io=26, without_io=5),
        "composed": make_corpus(with_io=9, without_io=3, composed_with_io=2, composed_without_io=2),
    }


@pytest.fixture(scope="module")
def tokenizers(tokenizer_dir, corpora):
    """Byte-level BPE: `plain`; `trimmed`, whose offsets leave out spaces; and `crossing`, of tokens over lines."""
    made = {name: AutoTokenizer.from_pretrained(tokenizer_dir) for name in ("plain", "trimmed")}
    made["trimmed"].backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    crossing = Tokenizer(models.BPE())
    crossing.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    crossing.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet)
    crossing.train_from_iterator([e.program.source for c in corpora.values() for e in c.entries], trainer)
    made["crossing"] = PreTrainedTokenizerFast(tokenizer_object=crossing, pad_token="<pad>", eos_token="<eos>")
    return {
        name: SimpleNamespace(tokenizer=tokenizer, cfg=SimpleNamespace(d_vocab=len(tokenizer)))
        for name, tokenizer in made.items()
    }


def padded_left(model, prompts: Prompts) -> Prompts:
    """The same texts, padded on the other side; the role `code` where its source first stands."""
    spans = [
        (text.index(source), text.index(source) + len(source))
        for text, source in zip(prompts.texts, prompts.labels["source"], strict=True)
    ]
    return Prompts.from_texts(model, prompts.texts, {"code": spans}, prompts.labels, padding_side="left")


def innermost(node: ast.AST, line: int, column: int) -> str:
    for part in ast.walk(node):
        inside = part is not node and hasattr(part, "lineno")
        if inside and (part.lineno, part.col_offset) <= (line, column) < (part.end_lineno, part.end_col_offset):
            return innermost(part, line, column)
    return type(node).__name__


@pytest.mark.parametrize(
    ("name", "family", "side"),
    [
        ("plain", "arithmetic", "left"),
        ("plain", "algorithms", "right"),
        ("crossing", "algorithms", "left"),
        ("crossing", "composed", "right"),
        ("trimmed", "algorithms", "left"),
    ],
)
def test_tokens_of_code_have_the_line_node_and_run_of_their_characters(name, family, side, tokenizers, corpora):
    model, corpus = tokenizers[name], corpora[family]
    prompts = code_prompts(corpus, model, n=15, seed=1)
    if side == "left":
        prompts = padded_left(model, prompts)
    table = code_tokens(model, prompts, corpus)
    entries = {entry.program.name: entry for entry in corpus.entries}
    crossed = 0
    for i, tokens in table.groupby("prompt"):
        source, row = prompts.labels["source"][i], prompts.labels.loc[i]
        tree = ast.parse(source)
        expected = line_targets(source, entries[row["program"]].traces[row["place"]]).set_index("line")
        first, last = prompts.spans["code"][i].tolist()
        assert tokens["position"].tolist() == list(range(first, last + 1))
        assert (tokens[["program", "group", "output"]] == row[["program", "group", "output"]]).all(axis=None)
        decoded = [model.tokenizer.decode([token]) for token in prompts.tokens[i, first : last + 1].tolist()]
        ends = np.cumsum([len(text) for text in decoded])
        shift = decoded[0].find("def")  # the first token may begin before the code, the last end behind it
        assert source.startswith("".join(decoded)[shift:].rstrip()[:20])
        for end, text, token in zip(ends, decoded, tokens.itertuples(), strict=True):
            covered = source[max(end - len(text) - shift, 0) : end - shift]
            assert token.token.strip() == covered.strip()
            assert name == "trimmed" or token.token == covered
            shown = end - shift - len(covered.lstrip() or covered)
            line, column = source[:shown].count("\n") + 1, shown - (source.rfind("\n", 0, shown) + 1)
            assert (token.line, token.node) == (line, innermost(tree, line, column))
            for target in TARGETS:
                right, found = expected[target].get(line), getattr(token, target)
                assert (pd.isna(right) and pd.isna(found)) or right == found
            crossed += "\n" in covered.strip()
    assert (crossed > 0) == (name == "crossing")
    assert table["prompt"].nunique() == len(prompts) == 30
    assert table[TARGETS].notna().any().all()


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_in_a_chat_the_code_is_in_the_users_turn(name, chat_model, corpora):
    model = load_model(chat_model(name))
    prompts = code_prompts(corpora["arithmetic"], model, n=5, call_first=True)
    table = code_tokens(model, prompts)
    for i, text in enumerate(prompts.texts):
        source = prompts.labels["source"][i]
        tokens = table[table["prompt"] == i]
        assert "".join(tokens["token"]) == source
        assert model.tokenizer.decode(prompts.tokens[i, tokens["position"].tolist()]) == source
        assert "user" in text.split(source)[0]
        assert text.endswith(("assistant\n", "assistant<|end_header_id|>\n\n"))


def test_prompts_are_those_of_evaluation_in_context(corpora, nano, bridge, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(behaviour, "complete", lambda model, tokenizer, prompts, *_: asked.extend(prompts) or prompts)
    monkeypatch.setattr(behaviour, "forced_choice", lambda model, tokenizer, prompts, *_: list(prompts))
    corpus = make_corpus(with_io=12, without_io=4)
    behaviour.evaluate(nano, corpus, modes=("direct",), in_context=True, seed=3)
    prompts = code_prompts(corpus, bridge("nano"), seed=3)
    pointers, theirs = zip(*(text.split("\n", 1) for text in asked), strict=True)
    _, ours = zip(*(text.split("\n", 1) for text in prompts.texts), strict=True)
    assert len(ours) == len(theirs) == 160
    same = [a == b for a, b in zip(ours, theirs, strict=True)]
    assert 10 < sum(same) < 100  # evaluation writes the code in other forms and with other variables too
    assert [a.split("\n")[-1] for a in ours] == [b.split("\n")[-1] for b in theirs]
    names = prompts.labels["program"]
    shapes = {text.split("\n", 1)[0].replace(name, "{}") for text, name in zip(prompts.texts, names, strict=True)}
    assert shapes == {pointer.replace(name, "{}") for pointer, name in zip(pointers, names, strict=True)}


@pytest.mark.parametrize("call_first", [False, True])
def test_roles_are_the_code_and_the_call_behind_it(call_first, corpora, tokenizers):
    model = tokenizers["plain"]
    prompts = code_prompts(corpora["algorithms"], model, "without_io", call_first=call_first)
    assert list(prompts.spans) == ["code", "name", "input", "answer"]
    assert set(prompts.labels["group"]) == {"without_io"}
    for i, (text, row) in enumerate(zip(prompts.texts, prompts.labels.itertuples(), strict=True)):
        before, after = text.split("\n" + row.source + "\n")
        assert after == row.prompt
        assert before.startswith(row.prompt + "\n") == call_first
        covered = {
            role: model.tokenizer.decode(prompts.tokens[i, first : last + 1])
            for role, (first, last) in ((role, span[i].tolist()) for role, span in prompts.spans.items())
        }
        assert row.source in covered["code"]
        assert row.program in covered["name"]
        assert row.call in covered["input"]
        assert prompts.spans["name"][i, 0] > prompts.spans["code"][i, 1]


OWN = """def größe(x, words):
    # "ä" is two bytes
    n = 0; m = "ä"
    if x > 1: n = x
    for word in words: n += len(word)
    while n > 3: n -= 1
    return [n,
            m]
"""


def test_code_of_ones_own_may_be_laid_out_as_one_likes(tokenizers):
    model = tokenizers["plain"]
    text = "# Größe\n" + OWN + "größe(2, ['ab', 'c'])"
    labels = pd.DataFrame({"source": [OWN] * 2, "call": ["2, ['ab', 'c']", "1, []"]})
    start = text.index("def")
    prompts = Prompts.from_texts(model, [text] * 2, {"code": [(start, start + len(OWN))] * 2}, labels)
    table = code_tokens(model, prompts)
    assert list(table)[-6:] == TARGETS

    def at(prompt, piece):
        """What is said of the token in which a piece of the code begins."""
        tokens = table[table["prompt"] == prompt]
        ends, bytes_before = 0, len(OWN[: OWN.index(piece)].encode())
        for k, position in enumerate(tokens["position"]):
            raw = model.tokenizer.convert_ids_to_tokens([int(prompts.tokens[prompt, position])])[0]
            ends += len(raw)  # byte-level BPE writes a character a byte
            if ends > bytes_before:
                row = tokens.iloc[k]
                return row["line"], *(None if pd.isna(row[target]) else row[target] for target in TARGETS)
        raise AssertionError(piece)

    assert at(0, "def") == (1, *[None] * 6)
    assert at(0, '"ä" is') == (2, *[None] * 6)
    assert at(0, "n = 0") == (3, True, 3, "n", 0, "int", 1)
    assert at(0, "m =") == at(0, '"\n') == (3, True, 4, "m", "'ä'", "str", 1)
    assert at(0, "x > 1") == (4, True, 4, None, None, None, 1)
    assert at(0, "n = x") == (4, True, 5, "n", 2, "int", 1)
    assert at(0, "in words") == (5, True, 5, "word", "'ab'", "str", 3)
    assert at(0, "+= len") == (5, True, 5, "n", 4, "int", 2)
    assert at(0, "n > 3") == (6, True, 6, None, None, None, 3)
    assert at(0, "n -=") == (6, True, 6, "n", 4, "int", 2)
    assert at(0, "return") == (7, True, 0, None, None, None, 1)
    assert at(0, "m]") == (8, True, 0, None, None, None, 1)
    assert at(1, "n = x") == (4, False, None, None, None, None, 0)
    assert at(1, "+= len") == (5, False, None, None, None, None, 0)
    assert at(1, "in words") == (5, True, 6, None, None, None, 1)


def test_without_a_call_code_of_any_kind_has_lines_and_nodes_only(tokenizers):
    source = "import os\n\nclass A(B):\n    size: int = 3\n"
    labels = pd.DataFrame({"source": [source]})
    model = tokenizers["plain"]
    table = code_tokens(model, Prompts.from_texts(model, [source], {"code": [(0, len(source))]}, labels))
    assert "".join(table["token"]) == source
    assert {"Import", "ClassDef", "Name", "AnnAssign", "Constant"} <= set(table["node"])
    assert table[TARGETS].isna().all().all()
    assert set(table["line"]) == {1, 2, 3, 4} or set(table["line"]) == {1, 3, 4}


def test_what_is_no_code_to_look_at_is_refused(tokenizers, corpora):
    model = tokenizers["plain"]

    def refused(message, source, call=None, text=None, role="code", corpus=None, change=None):
        labels = pd.DataFrame({"source": [source]} | ({"call": [call]} if call is not None else {}))
        text = text or source
        prompts = Prompts.from_texts(model, [text], {role: [(0, len(text))]}, labels)
        if change is not None:
            prompts.tokens[0, 3] = change
        with pytest.raises(PbbError, match=message):
            code_tokens(model, prompts, corpus)

    good = "def f(x):\n    return x"
    refused("role 'code' and the label 'source'", good, role="program")
    refused("role 'code' and the label 'source'", None, text=good)
    refused("does not stand at its role", good, text="def g(x):\n    return x")
    refused("are not those of its text", good, change=7)
    refused("no Python", "def f(x:\n    return x")
    refused("A program is one function", "x = 1", call="1")
    refused(r"The call code\(x\) cannot be read: its arguments must be Python values", good, call="x")
    refused("its arguments must be Python values", good, call=float("nan"))
    refused("f: TypeError", good, call="1, 2")
    refused("f: line 2: a call of open is not allowed", "def f(x):\n    return open(x)", call="1")
    composed = code_prompts(corpora["composed"], model)
    with pytest.raises(PbbError, match=r"a call of \w+ is not allowed"):
        code_tokens(model, composed)
    assert len(code_tokens(model, composed, corpora["composed"]))


def test_nano_has_what_is_written_on_a_line_from_the_token_on_at_which_it_is_read(bridge):
    """Held-out functions that assign a constant on their second line, of which it is the third token."""
    model, rng = bridge("nano"), random.Random(0)
    rows = []
    for entry in make_corpus(with_io=200, without_io=1).entries:
        name, value = entry.program.name, rng.randrange(10)
        rows.append((f"def {name}(x):\n    y = {value}\n    return (x + y) % 10", str(rng.randrange(10)), name))
    labels = pd.DataFrame(rows, columns=["source", "call", "program"])
    texts = [f"{source}\n{name}({call}) =" for source, call, name in rows]
    prompts = Prompts.from_texts(model, texts, {"code": [(0, len(source)) for source in labels["source"]]}, labels)
    tokens = code_tokens(model, prompts)
    line = tokens[tokens["line"] == 2]
    assert line["node"].tolist()[:4] == ["Name", "Assign", "Constant", "FunctionDef"]
    assert line["token"].tolist()[2] == str(line["value"].iloc[0])
    accuracy = []
    for nth in range(4):
        place = line.groupby("prompt").nth(nth)
        acts = capture_tokens(model, prompts, place, layers=[3])
        probes = fit_probes(acts, place[["value"]], clusters=place["program"], C=0.01)
        accuracy.append(float(probes["accuracy"].mean()))
    assert max(accuracy[:2]) < 0.25  # one value in ten
    assert accuracy[2] > 0.95  # at the line's end 0.29


def test_code_before_its_input_knows_nothing_of_it_and_the_answer_does(bridge):
    model, corpus = bridge("nano"), make_corpus(with_io=100, without_io=1, shapes=("two_steps",))
    prompts = code_prompts(corpus, model, "with_io", n=500)
    tokens = code_tokens(model, prompts, corpus)
    ends = tokens[(tokens["token"] == "\n") & tokens["value"].notna()]  # of the lines that assign
    assert ends["prompt"].tolist() == list(range(500))
    acts = capture_tokens(model, prompts, ends, layers=[3])
    values = acts["resid_post"].values[0, 0]
    before = pd.Series([text.rsplit("\n", 1)[0] for text in prompts.texts])
    alike = [rows for rows in before.groupby(before).indices.values() if len(set(ends["value"].iloc[rows])) > 1]
    assert len(alike) > 20
    for rows in alike:
        assert abs(values[rows] - values[rows[0]]).max() < 1e-3 * values.std()

    def accuracy(acts):
        return float(fit_probes(acts, ends[["value"]], clusters=ends["program"], C=0.01)["accuracy"].mean())

    assert accuracy(acts) < 0.25
    assert accuracy(capture(model, prompts, layers=[3], roles=["answer"])) > 0.7


def test_patching_the_code_restores_the_answer_at_its_constant_alone(bridge):
    """Pairs whose code differs in the first of two constants, patched where nothing has been moved yet."""
    model = bridge("nano")
    code = "def {}(x):\n    y = (x + {}) % 10\n    return y * 3 % 10"
    entries = make_corpus(with_io=8, without_io=4).entries
    runs = []
    for shift in (2, 5):
        labels = pd.DataFrame({"source": [code.format(entry.program.name, shift) for entry in entries], "call": "4"})
        labels["program"] = [entry.program.name for entry in entries]
        texts = [f"{source}\n{name}(4) =" for source, name in zip(labels["source"], labels["program"], strict=True)]
        spans = [(0, len(source)) for source in labels["source"]]
        runs.append(Prompts.from_texts(model, texts, {"code": spans}, labels))
    pairs = Pairs(*runs)
    metric = answer_difference(*(answer_ids(model, pairs.clean, [answer] * 12) for answer in (8, 7)))
    effects = patch_sweep(model, pairs, metric=metric, layers=[0])
    tokens = code_tokens(model, pairs.clean)
    found = by_node(recovery(effects)["resid_pre"], tokens)
    clusters, weights = pairs.clean.labels["program"], found["weight"].values
    table = interval_table(found, clusters=clusters, weights=weights, draws=100).set_index("node")
    share = (tokens["node"] == "Constant").sum() / 12  # one of the constants of a prompt differs
    assert share == 4
    assert table["mean"]["Constant"] == pytest.approx(1 / share, abs=1e-3)
    assert table["mean"].drop("Constant").abs().max() < 1e-3
    assert {"Name", "BinOp", "Assign", "Return", "FunctionDef", "arg"} <= set(table.index)
