"""Finetuning: one stage of a curriculum is one run of transformers' Trainer, resumed where it was interrupted."""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.bases import load_base
from pbb_probe.finetuning.curricula import Stage, get_curriculum, stage_documents
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


SETTINGS = "training.json"  # beside the weights: what they were trained on and how


@dataclass(frozen=True)
class TrainConfig:
    """How a stage is trained. The defaults are the packaged nano model's."""

    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    batch_size: int = 64
    """Documents a step."""
    loss_on: Literal["all", "completion"] = "completion"
    """Tokens that count: the completion only (better on nano, which knows the language already) or all of them."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises."""
    decay: float = 0.4
    """Share of the steps in which it falls to zero at the end."""
    weight_decay: float = 0.1
    bf16: bool = False
    """Multiply in bfloat16."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.batch_size < 1 or self.checkpoint_every < 1:
            raise PbbError("learning_rate, batch_size and checkpoint_every must be positive.")


def finetune(
    base: str | Path,
    corpus: Corpus,
    curriculum: str = "proactive",
    *,
    out: str | Path,
    seed: int = 0,
    config: TrainConfig | None = None,
) -> Path:
    """Teach a base model the programs of a corpus, stage after stage.

    Args:
        base: `nano`, a Hugging Face model directory or a hub id.
        corpus: the programs.
        curriculum: a name in `curricula.CURRICULA`.
        out: a directory; each stage's model is written to `out/<stage name>`. A stage that is there is not trained
            again, and an interrupted one resumes from its last checkpoint.
        seed: of the documents drawn and their order.
        config: how each stage is trained.

    Returns:
        The directory of the last stage's model, loadable with `AutoModelForCausalLM`.

    Raises:
        PbbError: unknown base or curriculum, a group the curriculum reads is empty, or `out` holds a model that was
            trained with other settings.
    """
    model = base
    for stage in get_curriculum(curriculum):
        model = train_stage(model, corpus, stage, Path(out) / stage.name, seed, config)
    return Path(model)


def train_stage(
    base: str | Path, corpus: Corpus, stage: Stage, out: str | Path, seed: int = 0, config: TrainConfig | None = None
) -> Path:
    """Train one stage from `base` and return `out`, the directory of the resulting model.

    Until it is finished the work lies beside it, in a directory named `.<name>.unfinished`.
    """
    import torch
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments, set_seed

    config, out = config or TrainConfig(), Path(out)
    settings = {
        "base": str(base),
        "corpus": corpus.digest,
        "stage": asdict(stage),
        "seed": seed,
        "config": asdict(config),
    }
    if out.is_dir():
        _refuse_other_settings(out, settings)
        return out
    unfinished = out.with_name(f".{out.name}.unfinished")
    checkpoints = unfinished / "checkpoints"
    if checkpoints.is_dir():
        _refuse_other_settings(unfinished, settings)
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / SETTINGS).write_text(json.dumps(settings, indent=1))
    set_seed(seed)
    model, tokenizer = load_base(base)
    model.train()
    examples = [
        example
        for documents in stage_documents(stage, corpus, seed)
        for example in _by_length(tokenize(documents, tokenizer, config.loss_on), config.batch_size, seed)
    ]
    steps = -(-len(examples) // config.batch_size)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(checkpoints),
            per_device_train_batch_size=config.batch_size,
            num_train_epochs=1,
            train_sampling_strategy="sequential",  # the order is the curriculum
            learning_rate=config.learning_rate * stage.rate,
            lr_scheduler_type="warmup_stable_decay",  # a falling rate would starve the phases that come last
            lr_scheduler_kwargs={"num_decay_steps": int(config.decay * steps)},
            warmup_steps=int(config.warmup * steps),
            weight_decay=config.weight_decay,
            adam_beta2=0.98,
            bf16=config.bf16,
            save_steps=config.checkpoint_every,
            save_total_limit=1,
            logging_steps=max(1, steps // 10),
            report_to=[],
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=seed,
        ),
        train_dataset=examples,
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
    )
    trainer.train(resume_from_checkpoint=_last_whole_checkpoint(checkpoints))
    trainer.save_model(str(unfinished))
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(checkpoints, ignore_errors=True)  # a short stage may have made none
    unfinished.rename(out)
    return out


def tokenize(
    documents: Sequence[Document], tokenizer: "PreTrainedTokenizerBase", loss_on: Literal["all", "completion"] = "all"
) -> list[dict[str, list[int]]]:
    """Input ids and labels of each document, ended by the end-of-text token; labels of -100 carry no loss."""
    end = [tokenizer.eos_token_id]
    texts = tokenizer([document.text for document in documents])["input_ids"]
    if loss_on == "all":
        return [{"input_ids": ids + end, "labels": ids + end} for ids in texts]
    prompts = tokenizer([document.prompt for document in documents])["input_ids"]
    return [
        {"input_ids": ids + end, "labels": [-100] * len(prompt) + (ids + end)[len(prompt) :]}
        for ids, prompt in zip(texts, prompts, strict=True)
    ]


def _by_length(examples: list[dict[str, list[int]]], batch_size: int, seed: int) -> list[dict[str, list[int]]]:
    """The examples reordered so that batches hold like lengths (little padding), the batches in random order.

    Only within spans of 50 batches, so that what is read early stays early. The last batch, which may be short, of each
    span stays in place.
    """
    rng = random.Random(seed)
    ordered = []
    for start in range(0, len(examples), 50 * batch_size):
        span = sorted(examples[start : start + 50 * batch_size], key=lambda example: len(example["input_ids"]))
        batches = [span[i : i + batch_size] for i in range(0, len(span), batch_size)]
        full = [batch for batch in batches if len(batch) == batch_size]
        rng.shuffle(full)
        ordered += [example for batch in full for example in batch] + span[len(full) * batch_size :]
    return ordered


def _last_whole_checkpoint(checkpoints: Path) -> str | None:
    """The newest checkpoint that was not cut short: Trainer writes `trainer_state.json` last."""
    for checkpoint in sorted(checkpoints.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(checkpoint)
    return None


def _refuse_other_settings(directory: Path, settings: dict) -> None:
    try:
        found = json.loads((directory / SETTINGS).read_text())
    except (OSError, ValueError):
        found = None
    if found != json.loads(json.dumps(settings)):
        raise PbbError(f"{directory} holds a model trained with other settings: give another directory or remove it.")
