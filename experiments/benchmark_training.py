"""Training throughput: a stage by `train_stage` against a bare torch loop over the same batches, in one process.

    python experiments/benchmark_training.py

The bare loop gets the batches ready-made, already padded and in memory, and does nothing but forward, backward,
clipping and AdamW. `train_stage` also renders, tokenizes, stores and reads the documents, logs and saves. Both are run
in turn, the fastest of each counts.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from transformers import DataCollatorForSeq2Seq
from transformers.utils import logging

import pbb_probe as pbb
from pbb_probe.finetuning.curricula import Portion, Stage
from pbb_probe.finetuning.examples import write_examples
from pbb_probe.finetuning.train import train_stage
from pbb_probe.models.bases import load_base

STAGE = Stage(
    "benchmark",
    ((Portion("with_io", "code", 20), Portion("with_io", "io", 120), Portion("with_io", "trace", 20)),),
)
CONFIG = pbb.TrainConfig()


def bare_loop(base: str, batches: list[dict[str, torch.Tensor]]) -> float:
    """Seconds of the plainest loop that learns the same."""
    model, _ = load_base(base)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), CONFIG.learning_rate, (0.9, 0.98), weight_decay=0.1)
    started = time.perf_counter()
    for batch in batches:
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="nano")
    parser.add_argument("--programs", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logging.disable_progress_bar()
    corpus = pbb.make_corpus(with_io=options.programs, without_io=1)
    _, tokenizer = load_base(options.base)
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        examples = write_examples(STAGE, corpus, tokenizer, CONFIG, 0, Path(folder) / "examples")
        collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        size = CONFIG.batch_size
        batches = [
            dict(collate([examples[i] for i in range(start, min(start + size, len(examples)))]))
            for start in range(0, len(examples), size)
        ]
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        for turn in range(options.repeats):
            started = time.perf_counter()
            train_stage(options.base, corpus, STAGE, Path(folder) / str(turn), config=CONFIG)
            ours.append(time.perf_counter() - started)
            bare.append(bare_loop(options.base, batches))
    print(f"{len(batches)} steps of {size} documents, {tokens:,} tokens, {torch.get_num_threads()} threads")
    print("| | seconds | tokens a second |\n|---|---|---|")
    for name, seconds in (("bare torch loop", min(bare)), ("train_stage, documents to saved model", min(ours))):
        print(f"| {name} | {seconds:.1f} | {tokens / seconds:,.0f} |")
    print(f"\ntrain_stage takes {min(ours) / min(bare):.2f} times as long as the bare loop.")


if __name__ == "__main__":
    main()
