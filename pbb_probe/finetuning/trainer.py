"""What the trainers of all methods share: the processes, what each of them reads, and the arguments of a Trainer.

The trainer that learns from documents is here, too; the one that is rewarded for answers is in `reinforce`.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Stage

if TYPE_CHECKING:
    from accelerate import PartialState
    from datasets import Dataset
    from transformers import Trainer

KEPT_CHECKPOINTS = 2
"""If the last one is damaged, training resumes from the one before it."""


def processes() -> "PartialState":
    """All processes of this training. Without an accelerator they find each other only if `cpu` is set."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def first_of_all() -> bool:
    """Wait until all processes are here: is this the first?"""
    state = processes()
    state.wait_for_everyone()
    return bool(state.is_main_process)


def batch_on_each(config: TrainConfig) -> int:
    """Documents that each process reads at once.

    Raises:
        PbbError: the documents of a step cannot be divided among the processes.
    """
    parts: int = processes().num_processes * config.gradient_accumulation
    if config.batch_size % parts:
        raise PbbError(f"batch_size must be a multiple of {parts}, processes times gradient_accumulation.")
    return config.batch_size // parts


def training_arguments(stage: Stage, config: TrainConfig, seed: int, steps: int, checkpoints: Path) -> dict[str, Any]:
    """What the trainers of all methods have in common, as arguments of TrainingArguments.

    Raises:
        PbbError: the documents of a step cannot be divided among the processes.
    """
    import torch

    less_memory = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    return {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": batch_on_each(config),
        "gradient_accumulation_steps": config.gradient_accumulation,
        **(less_memory if config.gradient_checkpointing else {}),
        "num_train_epochs": 1,
        "learning_rate": config.learning_rate * stage.rate,
        "lr_scheduler_type": "warmup_stable_decay",  # a rate that falls all along would starve the last phases
        "lr_scheduler_kwargs": {"num_decay_steps": int(config.decay * steps)},
        "warmup_steps": int(config.warmup * steps),
        "weight_decay": config.weight_decay,
        "adam_beta2": 0.98,
        "bf16": config.bf16,
        "use_cpu": processes().device.type == "cpu",
        "save_steps": config.checkpoint_every,
        "save_total_limit": KEPT_CHECKPOINTS,
        "logging_steps": max(1, steps // 10),
        "logging_nan_inf_filter": False,  # otherwise diverging training would look sound
        "report_to": [],
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": seed,
    }


def sft_trainer(
    model: Any, tokenizer: Any, examples: "Dataset", stage: Stage, config: TrainConfig, seed: int, checkpoints: Path
) -> "Trainer":
    """The trainer that learns a stage's examples, in their order.

    Raises:
        PbbError: the documents of a step cannot be divided among the processes.
    """
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    steps = -(-len(examples) // config.batch_size)
    padding = copy.deepcopy(tokenizer)
    padding.padding_side = "right"  # on the left it would shift learned positions
    arguments = training_arguments(stage, config, seed, steps, checkpoints)
    return Trainer(
        model=model,
        args=TrainingArguments(**arguments, train_sampling_strategy="sequential"),  # the order is the curriculum
        train_dataset=examples,
        data_collator=DataCollatorForSeq2Seq(padding, label_pad_token_id=-100),
    )
