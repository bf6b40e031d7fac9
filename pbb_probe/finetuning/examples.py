"""Examples: a stage's documents as token ids, written to disk as they are rendered, and read from there in order.

Memory stays flat: what grows with the corpus is a memory-mapped Arrow file, and about fifty bytes a document for the
order.
"""

import json
import random
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Stage, stage_documents
from pbb_probe.models.tokens import encode
from pbb_probe.programs.corpus import Corpus

if TYPE_CHECKING:
    from datasets import Dataset

SPAN = 50  # batches within which documents of similar length are grouped


def write_examples(
    stage: Stage, corpus: Corpus, tokenizer: Any, config: TrainConfig, seed: int, directory: Path
) -> "Dataset":
    """The stage's examples in the order in which they are read.

    Returns:
        A `datasets.Dataset` with `input_ids` and `labels`, on disk in `directory`.

    Raises:
        PbbError: a group that the stage reads is empty, the tokenizer lacks a word, or the replay cannot be read.
    """
    from datasets import Dataset, Features, Value
    from datasets import Sequence as Items
    from datasets.arrow_writer import ArrowWriter

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "examples.arrow"
    ids = Items(Value("int32"))
    order: list[int] = []
    with ArrowWriter(path=str(path), features=Features({"input_ids": ids, "labels": ids})) as writer:
        for phase in stage_documents(stage, corpus, seed, read_texts(config.replay), config.replay_share):
            lengths = array("i")
            for example in encode(phase, tokenizer, config.loss_on):
                lengths.append(len(example["input_ids"]))
                writer.write(example)
            start = len(order)
            by_batch = by_length(phase.order, lengths, config.batch_size, seed)
            order += [start + i for i in by_batch]
        writer.finalize()
    return Dataset.from_file(str(path)).select(order)


def read_texts(path: str | None) -> list[str]:
    """The general texts of a .jsonl (`text` on each line) or a .txt (an empty line between two).

    Raises:
        PbbError: the file cannot be read or holds no text.
    """
    if path is None:
        return []
    try:
        content = Path(path).expanduser().read_text(encoding="utf-8-sig")
        if path.endswith(".jsonl"):
            texts = [json.loads(line)["text"] for line in content.split("\n") if line.strip()]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a `text` is no text")
        else:
            texts = [text.strip() for text in content.split("\n\n") if text.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PbbError(
            f"The replay texts in {path} cannot be read ({error}): give a .jsonl with a `text` on each line, or a .txt."
        ) from error
    if not texts:
        raise PbbError(f"There is no replay text in {path}.")
    return texts


def by_length(order: Sequence[int], lengths: Sequence[int], batch_size: int, seed: int) -> list[int]:
    """The order with documents of similar length grouped into batches (little padding), the batches in random order.

    Only within spans of `SPAN` batches, so that what is read early stays early. The last batch of each span, which may
    be short, stays in place.
    """
    rng = random.Random(seed)
    ordered: list[int] = []
    for start in range(0, len(order), SPAN * batch_size):
        span = sorted(order[start : start + SPAN * batch_size], key=lambda i: lengths[i])
        batches = [span[i : i + batch_size] for i in range(0, len(span), batch_size)]
        full = [batch for batch in batches if len(batch) == batch_size]
        rng.shuffle(full)
        ordered += [i for batch in full for i in batch] + span[len(full) * batch_size :]
    return ordered
