"""Examples on disk are the stage's documents in reading order, and how many there are costs no memory."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

import pbb_probe as pbb
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Portion, Stage, stage_documents
from pbb_probe.finetuning.examples import SPAN, by_length, read_texts, write_examples
from pbb_probe.models.tokens import encode

STAGE = Stage(
    "short", ((Portion("with_io", "code", 4),), (Portion("with_io", "io", 6), Portion("with_io", "trace", 2)))
)
CONFIG = TrainConfig(batch_size=4)


def padding(lengths, batch_size) -> int:
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


@pytest.mark.parametrize("loss_on", ["all", "completion"])
def test_examples_are_the_documents_in_the_order_in_which_they_are_read(loss_on, corpus, tokenizer, tmp_path):
    dataset = write_examples(STAGE, corpus, tokenizer, replace(CONFIG, loss_on=loss_on), 5, tmp_path / "examples")
    expected = []
    for phase in stage_documents(STAGE, corpus, 5):
        made = list(encode(list(phase), tokenizer, loss_on))
        order = by_length(phase.order, [len(example["input_ids"]) for example in made], 4, 5)
        expected += [made[i] for i in order]
    assert [dict(row) for row in dataset] == expected
    texts = [tokenizer.decode(row["input_ids"]) for row in dataset]
    recited = 4 * len(corpus.of("with_io"))
    assert all("def " in text or "lambda" in text for text in texts[:recited])  # what is read first stays first
    assert not [text for text in texts[recited:] if "def " in text or "lambda" in text]


def test_examples_with_replayed_texts_hold_them_in_every_phase(corpus, tokenizer, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("Birds sing.\n\n\n\nRain falls\non the roof.\n")
    config = replace(CONFIG, replay=str(texts), replay_share=0.5)
    dataset = write_examples(STAGE, corpus, tokenizer, config, 0, tmp_path / "examples")
    read = [tokenizer.decode(ids).removesuffix("<eos>") for ids in dataset["input_ids"]]
    there = [text in ("Birds sing.", "Rain falls\non the roof.") for text in read]
    code, calls = 4 * 12, 8 * 12
    assert sum(there[: code + code // 2]) == code // 2
    assert sum(there[code + code // 2 :]) == calls // 2
    assert 0 < there.index(True) < 20  # mixed, not at the end


def test_memory_does_not_grow_with_the_number_of_documents():
    """Eight times the documents: 14 000 more cost about 120 bytes each, and 600 if their ids were held in lists."""
    small, large = (peak_memory(times) for times in (50, 400))
    assert (large - small) / (40 * 350) < 350


MEASURE = """
import resource, sys, tempfile
from pathlib import Path
import datasets, pandas, transformers
from pbb_probe.models.bases import load_tokenizer
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Portion, Stage
from pbb_probe.finetuning.examples import write_examples
from pbb_probe.programs.corpus import make_corpus

def write(times):
    stage = Stage("s", ((Portion("with_io", "io", times),),))
    with tempfile.TemporaryDirectory() as directory:
        dataset = write_examples(stage, corpus, tokenizer, TrainConfig(), 0, Path(directory))
        assert len(dataset) == 40 * times

corpus, tokenizer = make_corpus(with_io=40, without_io=0), load_tokenizer("nano")
write(25)  # a whole chunk: what is needed once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write(int(sys.argv[1]))
print("grown by", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def peak_memory(times: int) -> int:
    """By how many bytes writing that many documents a program raises the peak memory of a fresh process."""
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, str(times)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    return int(ended.stdout.split()[-1])


def test_grouping_by_length_keeps_every_example_and_the_order_of_phases():
    lengths = [1 + i * 7 % 13 for i in range(700)]
    ordered = by_length(range(700), lengths, 4, seed=0)
    assert sorted(ordered) == list(range(700))
    moved = [abs(position - i) for position, i in enumerate(ordered)]
    assert 0 < max(moved) < SPAN * 4
    assert padding([lengths[i] for i in ordered], 4) < 0.2 * padding(lengths, 4)


def test_grouping_by_length_follows_the_order_given():
    order = random.Random(0).sample(range(500), 450)  # any ids, not all of them
    lengths = [1 + i * 7 % 13 for i in range(500)]
    ordered = by_length(order, lengths, 4, seed=0)
    for start in range(0, 450, SPAN * 4):
        assert sorted(ordered[start : start + SPAN * 4]) == sorted(order[start : start + SPAN * 4])
    assert ordered == by_length(order, lengths, 4, seed=0)
    assert ordered != by_length(order, lengths, 4, seed=1)
    first = [lengths[i] for i in ordered[: SPAN * 4]]
    assert first != sorted(first)  # whole batches are in random order
    assert ordered[-2:] == sorted(order[400:], key=lambda i: lengths[i])[-2:]  # the short batch stays last


def test_replay_texts_are_read_from_lines_or_paragraphs(tmp_path):
    lines, paragraphs = tmp_path / "t.jsonl", tmp_path / "t.txt"
    lines.write_text('{"text": "one\\n\\ntwo"}\n\n{"text": "th\u2028ree", "more": 1}\n')
    paragraphs.write_text("one\ntwo\n\n\nthree\n")
    assert read_texts(str(lines)) == ["one\n\ntwo", "th\u2028ree"]
    assert read_texts(str(paragraphs)) == ["one\ntwo", "three"]
    assert read_texts(None) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", "{"),
        ("t.jsonl", '{"content": "one"}'),
        ("t.jsonl", "[1]"),
        ("t.jsonl", '{"text": 7}'),
        ("t.jsonl", ""),
        ("t.txt", " \n\n"),
        ("t.txt", b"\xff\xfe\xff"),
        ("none.txt", None),
    ],
)
def test_replay_that_is_none_is_refused_in_one_sentence(name, content, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(pbb.PbbError, match=name) as caught:
        read_texts(str(tmp_path / name))
    assert "\n" not in str(caught.value)
