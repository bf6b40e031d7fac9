"""Before training: the model is prepared, and what does not fit it or its stages is refused, with nothing written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pbb_probe.errors import PbbError, first_line
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Stage, stage_documents
from pbb_probe.finetuning.diverged import has_finite_weights
from pbb_probe.finetuning.examples import read_texts
from pbb_probe.finetuning.reinforce import refuse_unfit
from pbb_probe.finetuning.trainer import batch_on_each
from pbb_probe.models.bases import load_base
from pbb_probe.models.tokens import encode, stop_ids
from pbb_probe.programs.corpus import Corpus
from pbb_probe.schema import AnyPlace


def check_training(base: AnyPlace, corpus: Corpus, stages: Sequence[Stage], config: TrainConfig) -> None:
    """Refuse what `train_stage` would refuse in any of the stages, before a directory is created.

    Raises:
        PbbError: no replay texts, an unknown or damaged base, or settings or programs that do not fit it.
    """
    read_texts(config.replay)
    model, tokenizer = prepared(base, config)
    for stage in stages:
        check_stage(stage, corpus, model, tokenizer, config)


def prepared(base: AnyPlace, config: TrainConfig) -> tuple[Any, Any]:
    """A base in training mode, with an adapter if one is configured, and its tokenizer.

    Raises:
        PbbError: an unknown or damaged base, no chat template where one is needed, or an adapter that does not fit.
    """
    model, tokenizer = load_base(base, config.dtype)
    if not has_finite_weights(model):
        raise PbbError(f"The model {str(base)!r} has weights that are NaN or infinite: give another base.")
    if config.chat and not tokenizer.chat_template:
        raise PbbError(f"The tokenizer of {str(base)!r} has no chat template: train without chat.")
    if not config.chat:
        tokenizer.chat_template = None  # so that later, too, it is asked without a template
    if config.chat:
        model.generation_config.eos_token_id = stop_ids(model, tokenizer)  # a base model may not know the end of a turn
    model.train()
    return (_with_adapter(model, config) if config.lora else model), tokenizer


def check_stage(stage: Stage, corpus: Corpus, model: Any, tokenizer: Any, config: TrainConfig) -> None:
    """Refuse a stage that cannot be trained; one document of each kind is encoded for every program.

    Raises:
        PbbError: a batch that cannot be divided, a model that cannot be reinforced, a group without programs, or a word
            that the tokenizer lacks.
    """
    batch_on_each(config)
    if stage.method == "grpo":
        refuse_unfit(model, config)
    once = replace(stage, phases=tuple(tuple(replace(portion, times=1) for portion in phase) for phase in stage.phases))
    for phase in stage_documents(once, corpus):
        for _ in encode(phase, tokenizer):
            pass


def _with_adapter(model: Any, config: TrainConfig) -> Any:
    from peft import LoraConfig, get_peft_model

    settings = config.lora
    assert settings is not None
    if config.gradient_checkpointing:
        model.enable_input_require_grads()  # otherwise nothing below the first adapter is recomputed with gradients
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
    except Exception as error:  # PEFT reads a text as a regular expression
        raise PbbError(
            f"LoRA does not fit this model ({first_line(error)}): change train.lora.target_modules."
        ) from error
