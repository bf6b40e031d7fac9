"""Finetuning: one stage of a curriculum is one run of transformers' Trainer, resumed where it was interrupted."""

import copy
import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pbb_probe.disk import file_digest, read_sealed, sync, write_sealed
from pbb_probe.errors import PbbError
from pbb_probe.finetuning.adapters import merged
from pbb_probe.finetuning.bases import base_digest, load_base
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Stage, get_curriculum, scaled
from pbb_probe.finetuning.examples import write_examples
from pbb_probe.finetuning.tokens import stop_ids
from pbb_probe.outputs import Checker, record_outputs
from pbb_probe.programs.corpus import Corpus
from pbb_probe.schema import AnyPlace, Seed, checks_arguments
from pbb_probe.writers import only_writer

if TYPE_CHECKING:
    from accelerate import PartialState
    from transformers import Trainer

SETTINGS = "training.json"  # beside the weights: what they were trained on and how


@checks_arguments
def finetune(
    base: AnyPlace,
    corpus: Corpus,
    curriculum: str = "proactive",
    *,
    out: AnyPlace,
    seed: Seed = 0,
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
        PbbError: unknown base or curriculum, a group the curriculum reads is empty, `out` holds a model that was
            trained with other settings, or another process is writing into it.
    """
    model, folder = base, Path(out).expanduser()
    stages = get_curriculum(curriculum)
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder) if _processes().is_main_process else nullcontext():
        for stage in stages:
            model = train_stage(model, corpus, stage, folder / stage.name, seed, config)
    return Path(model)


@checks_arguments
def train_stage(
    base: AnyPlace, corpus: Corpus, stage: Stage, out: AnyPlace, seed: Seed = 0, config: TrainConfig | None = None
) -> Path:
    """Train one stage from `base` and return `out`, the directory of the resulting model.

    Until it is finished the work lies beside it, in a directory named `.<name>.unfinished`. A finished model whose
    files are not as they were written is trained again. Started by `accelerate launch`, the processes share the
    documents of each step and the first one writes.
    """
    from transformers import set_seed

    from pbb_probe.finetuning.resume import RecordCheckpoints, last_whole_checkpoint

    config, out, state = config or TrainConfig(), Path(out), _processes()
    stage = scaled(stage, config.exposures)
    settings = {
        "base": base_digest(base),
        "corpus": corpus.digest,
        "stage": asdict(stage),
        "seed": seed,
        "config": asdict(config) | {"replay": file_digest(config.replay, "replay texts")},
    }
    unfinished = out.with_name(f".{out.name}.unfinished")
    checkpoints, examples = unfinished / ".checkpoints", unfinished / f".examples-{state.process_index}"
    if (found := _progress(out, settings)) == "trained":
        return out
    if found is None and out.exists():
        raise PbbError(
            f"{out} holds no model that this version has trained: give another directory or move it elsewhere."
        )
    begun = _progress(unfinished, settings)
    state.wait_for_everyone()
    if begun == "trained":  # a kill right before the renaming
        return _finish(unfinished, out)
    if state.is_main_process:
        if begun is None:
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, exist_ok=True)
        write_sealed(unfinished / SETTINGS, settings)
    state.wait_for_everyone()
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
    if stage.method == "grpo":
        from pbb_probe.finetuning.reinforce import grpo_trainer

        trainer: Trainer = grpo_trainer(model, tokenizer, stage, corpus, config, seed, checkpoints)
    else:
        shutil.rmtree(examples, ignore_errors=True)
        dataset = write_examples(stage, corpus, tokenizer, config, seed, examples)
        trainer = _sft_trainer(model, tokenizer, dataset, stage, config, seed, checkpoints)
    trainer.add_callback(RecordCheckpoints(_first_of_all))
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(checkpoints))
    state.wait_for_everyone()
    if state.is_main_process:
        trained: Any = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # nor autocast
        if config.lora:
            trained.save_pretrained(unfinished / "adapter")
            trained = merged(trained)
        trained.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        outputs = record_outputs(unfinished)
        del outputs[SETTINGS]
        for written in outputs.values():
            del written["modified"]  # equal models have equal records
        write_sealed(unfinished / SETTINGS, settings | {"outputs": outputs})
    return _finish(unfinished, out)


def _finish(unfinished: Path, out: Path) -> Path:
    """Give a trained model its name, once every process is done with its directory."""
    if _first_of_all():
        for path in (out, *unfinished.glob(".*")):  # a damaged model, and what was for training only
            shutil.rmtree(path, ignore_errors=True)
        unfinished.rename(out)
        sync(out.parent)
    _processes().wait_for_everyone()
    return out


def training_arguments(stage: Stage, config: TrainConfig, seed: int, steps: int, checkpoints: Path) -> dict[str, Any]:
    """What the trainers of all methods have in common, as arguments of TrainingArguments.

    Raises:
        PbbError: the documents of a step cannot be divided among the processes.
    """
    import torch

    from pbb_probe.finetuning.resume import KEPT

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
        "save_total_limit": KEPT,
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


def _first_of_all() -> bool:
    """Once all processes are here: is this the first?"""
    state = _processes()
    state.wait_for_everyone()
    return state.is_main_process


def _progress(directory: Path, settings: dict[str, Any]) -> Literal["begun", "damaged", "trained"] | None:
    """How far a directory is with what these settings say; None where it has no settings that can be read.

    Raises:
        PbbError: it has other settings.
    """
    record = read_sealed(directory / SETTINGS)
    if record is None:
        return None
    outputs = record.pop("outputs", None)
    if record != json.loads(json.dumps(settings)):
        raise PbbError(f"{directory} holds a model trained with other settings: give another directory or remove it.")
    if outputs is None:
        return "begun"
    checker = Checker()
    for name, written in outputs.items():
        if fault := checker.fault(directory, name, written):
            print(f"{directory}: trained again, as {name} is not as it was written ({fault})", file=sys.stderr)
            return "damaged"
    return "trained"
