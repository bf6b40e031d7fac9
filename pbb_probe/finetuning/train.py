"""Finetuning: one stage of a curriculum is one run of transformers' Trainer, resumed where it was interrupted."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.adapters import merged
from pbb_probe.finetuning.bases import load_base
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Stage, get_curriculum, scaled
from pbb_probe.finetuning.examples import write_examples
from pbb_probe.finetuning.tokens import stop_ids
from pbb_probe.programs.corpus import Corpus
from pbb_probe.store import file_digest

if TYPE_CHECKING:
    from accelerate import PartialState
    from transformers import Trainer

SETTINGS = "training.json"  # beside the weights: what they were trained on and how


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

    Until it is finished the work lies beside it, in a directory named `.<name>.unfinished`. Started by `accelerate
    launch`, the processes share the documents of each step and the first one writes.
    """
    from transformers import set_seed

    config, out, state = config or TrainConfig(), Path(out), _processes()
    stage = scaled(stage, config.exposures)
    settings = {
        "base": str(base),
        "corpus": corpus.digest,
        "stage": asdict(stage),
        "seed": seed,
        "config": asdict(config) | {"replay": file_digest(config.replay, "replay texts")},
    }
    if out.is_dir():
        _refuse_other_settings(out, settings)
        return out
    unfinished = out.with_name(f".{out.name}.unfinished")
    checkpoints = unfinished / "checkpoints"
    if checkpoints.is_dir():
        _refuse_other_settings(unfinished, settings)
    state.wait_for_everyone()
    unfinished.mkdir(parents=True, exist_ok=True)
    if state.is_main_process:
        (unfinished / SETTINGS).write_text(json.dumps(settings, indent=1))
    set_seed(seed)
    model, tokenizer = load_base(base, config.dtype)
    if config.chat and not tokenizer.chat_template:
        raise PbbError(f"The tokenizer of {str(base)!r} has no chat template: train without chat.")
    if not config.chat:
        tokenizer.chat_template = None  # what is asked without a template is answered without one, here and later
    if config.chat:
        model.generation_config.eos_token_id = stop_ids(model, tokenizer)  # a base model may know no end of a turn
    model.train()
    if config.lora:
        model = _with_adapter(model, config)
    examples = unfinished / f"examples-{state.process_index}"
    if stage.method == "grpo":
        from pbb_probe.finetuning.reinforce import grpo_trainer

        trainer: Trainer = grpo_trainer(model, tokenizer, stage, corpus, config, seed, checkpoints)
    else:
        dataset = write_examples(stage, corpus, tokenizer, config, seed, examples)
        trainer = _sft_trainer(model, tokenizer, dataset, stage, config, seed, checkpoints)
    trainer.train(resume_from_checkpoint=_last_whole_checkpoint(checkpoints))
    state.wait_for_everyone()
    shutil.rmtree(examples, ignore_errors=True)
    if state.is_main_process:
        trained: Any = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # nor autocast
        if config.lora:
            trained.save_pretrained(unfinished / "adapter")
            trained = merged(trained)
        trained.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(checkpoints, ignore_errors=True)  # a short stage may have made none
    state.wait_for_everyone()  # every process must be done with the directory before it is renamed
    if state.is_main_process:
        unfinished.rename(out)
    state.wait_for_everyone()
    return out


def training_arguments(stage: Stage, config: TrainConfig, seed: int, steps: int, checkpoints: Path) -> dict[str, Any]:
    """What the trainers of all methods have in common, as arguments of TrainingArguments.

    Raises:
        PbbError: the documents of a step cannot be divided among the processes.
    """
    import torch

    parts = _processes().num_processes * config.gradient_accumulation
    if config.batch_size % parts:
        raise PbbError(f"batch_size must be a multiple of {parts}, processes times gradient_accumulation.")
    less_memory: dict[str, Any] = {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    }
    return {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": config.batch_size // parts,
        "gradient_accumulation_steps": config.gradient_accumulation,
        **(less_memory if config.gradient_checkpointing else {}),
        "num_train_epochs": 1,
        "learning_rate": config.learning_rate * stage.rate,
        "lr_scheduler_type": "warmup_stable_decay",  # a falling rate would starve the phases that come last
        "lr_scheduler_kwargs": {"num_decay_steps": int(config.decay * steps)},
        "warmup_steps": int(config.warmup * steps),
        "weight_decay": config.weight_decay,
        "adam_beta2": 0.98,
        "bf16": config.bf16,
        "use_cpu": _processes().device.type == "cpu",
        "save_steps": config.checkpoint_every,
        "save_total_limit": 1,
        "logging_steps": max(1, steps // 10),
        "report_to": [],
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": seed,
    }


def _processes() -> "PartialState":
    """All processes of this training. Without an accelerator they find each other only if that is said."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def _sft_trainer(model, tokenizer, examples, stage: Stage, config: TrainConfig, seed: int, out: Path) -> "Trainer":
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    steps = -(-len(examples) // config.batch_size)
    padding = copy.deepcopy(tokenizer)
    padding.padding_side = "right"  # on the left it would shift learned positions
    arguments = training_arguments(stage, config, seed, steps, out)
    return Trainer(
        model=model,
        args=TrainingArguments(**arguments, train_sampling_strategy="sequential"),  # the order is the curriculum
        train_dataset=examples,
        data_collator=DataCollatorForSeq2Seq(padding, label_pad_token_id=-100),
    )


def _with_adapter(model: Any, config: TrainConfig) -> Any:
    from peft import LoraConfig, get_peft_model

    settings = config.lora
    assert settings is not None
    if config.gradient_checkpointing:
        model.enable_input_require_grads()  # else nothing below the first adapter would be recomputed with gradients
    try:
        return get_peft_model(
            model,
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                lora_dropout=settings.dropout,
                target_modules=settings.target_modules,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        raise PbbError(f"LoRA does not fit this model ({error}): change lora.target_modules.") from error


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
