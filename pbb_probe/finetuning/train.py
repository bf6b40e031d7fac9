"""Finetuning: one stage of a curriculum is one run of transformers' Trainer, resumed where it was interrupted."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Stage, get_curriculum, scaled
from pbb_probe.finetuning.diverged import DivergedError, refuse_loss, refuse_weights
from pbb_probe.finetuning.examples import write_examples
from pbb_probe.finetuning.prepare import check_stage, check_training, prepared
from pbb_probe.finetuning.reinforce import grpo_trainer
from pbb_probe.finetuning.trainer import first_of_all, processes, sft_trainer
from pbb_probe.finetuning.unfinished import StageDirectory
from pbb_probe.models.adapters import merged
from pbb_probe.models.bases import base_digest
from pbb_probe.programs.corpus import Corpus
from pbb_probe.schema import AnyPlace, Name, Seed, checks_arguments, shown
from pbb_probe.store.disk import file_digest, remove
from pbb_probe.store.writers import only_writer

if TYPE_CHECKING:
    from transformers import Trainer


@checks_arguments
def finetune(
    base: AnyPlace,
    corpus: Corpus,
    curriculum: Name = "proactive",
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
        out: a directory; each stage's model is written to `out/<stage name>`. A finished stage is not trained again,
            and an interrupted one resumes from its last checkpoint.
        seed: of the documents drawn and their order.
        config: how each stage is trained.

    Returns:
        The directory of the last stage's model, loadable with `AutoModelForCausalLM`.

    Raises:
        PbbError: an unknown base or curriculum, a group that the curriculum reads and that is empty, settings that do
            not fit the base, training that diverges, an `out` that holds a model trained with other settings or files
            that training did not write, or that another process is writing into.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus = pbb.make_corpus(with_io=4, without_io=2)
        >>> config = pbb.TrainConfig(exposures=0.01, batch_size=16)
        >>> pbb.finetune("nano", corpus, "joint", out="models", config=config).name  # doctest: +ELLIPSIS
        {'loss': ...
        'joint'
    """
    model, folder = base, Path(out).expanduser()
    config, stages = _train_config(config), get_curriculum(curriculum)
    if not folder.exists():
        check_training(base, corpus, stages, config)
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder) if processes().is_main_process else nullcontext():
        for stage in stages:
            model = train_stage(model, corpus, stage, folder / stage.name, seed, config)
    return Path(model)


@checks_arguments
def train_stage(
    base: AnyPlace, corpus: Corpus, stage: Stage, out: AnyPlace, seed: Seed = 0, config: TrainConfig | None = None
) -> Path:
    """Train one stage from `base` and return `out`, the directory of the resulting model.

    Unfinished work lies beside it, in a directory named `.<name>.unfinished`. A finished model with a damaged file is
    trained again. Under `accelerate launch` the processes share the documents of each step, and the first one writes.
    """
    config, out, state = _train_config(config), Path(out), processes()
    stage = scaled(stage, config.exposures)
    settings = {
        "base": base_digest(base),
        "corpus": corpus.digest,
        "stage": asdict(stage),
        "seed": seed,
        "config": asdict(config) | {"replay": file_digest(config.replay, "replay texts")},
    }
    directory = StageDirectory(out, settings, state.process_index)
    if directory.is_finished():
        if state.is_main_process:
            directory.clean()
        return out
    trained = directory.progress() == "trained"  # a kill right before the renaming
    state.wait_for_everyone()
    if not trained:
        try:
            _train(base, corpus, stage, config, seed, directory)
        except DivergedError:
            if first_of_all():
                directory.discard()  # its checkpoints would diverge again
            raise
        finally:
            remove(directory.examples)
    if first_of_all():
        directory.finish()
    state.wait_for_everyone()
    return out


def _train(
    base: AnyPlace, corpus: Corpus, stage: Stage, config: TrainConfig, seed: int, directory: StageDirectory
) -> None:
    """Train a stage, and write and record the model among the unfinished work."""
    from transformers import set_seed

    from pbb_probe.finetuning.name_rows import FasterNames, single_tokens
    from pbb_probe.finetuning.resume import RecordCheckpoints, RefuseDivergence, last_whole_checkpoint

    set_seed(seed)
    model, tokenizer = prepared(base, config)
    check_stage(stage, corpus, model, tokenizer, config)
    checkpoints, dataset = directory.checkpoints, None
    if stage.method != "grpo":
        remove(directory.examples)
        dataset = write_examples(stage, corpus, tokenizer, config, seed, directory.examples)
    if first_of_all():
        directory.begin()
    processes().wait_for_everyone()
    trainer: Trainer
    if dataset is None:
        trainer = grpo_trainer(model, tokenizer, stage, corpus, config, seed, checkpoints)
    else:
        trainer = sft_trainer(model, tokenizer, dataset, stage, config, seed, checkpoints)
    names = single_tokens((entry.program.name for entry in corpus.entries), tokenizer)
    if names and config.name_rate != 1 and model.get_input_embeddings().weight.requires_grad:
        trainer.add_callback(FasterNames(names, config.name_rate))
    trainer.add_callback(RecordCheckpoints(directory.digest))
    trainer.add_callback(RefuseDivergence(samples=stage.method == "grpo"))
    ended = trainer.train(resume_from_checkpoint=last_whole_checkpoint(checkpoints, directory.digest))
    refuse_loss(ended.training_loss)
    refuse_weights(trainer.model)
    if first_of_all():
        directory.empty()
        trained: Any = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # nor autocast
        if config.lora:
            trained.save_pretrained(directory.unfinished / "adapter")
            trained = merged(trained)
        trained.save_pretrained(directory.unfinished)
        tokenizer.save_pretrained(directory.unfinished)
        directory.record()


def _train_config(config: Any) -> TrainConfig:
    """The defaults for None.

    Raises:
        PbbError: it is neither None nor a TrainConfig.
    """
    if config is None:
        return TrainConfig()
    if not isinstance(config, TrainConfig):
        raise PbbError(f"config must be a TrainConfig, not {shown(config)}: give TrainConfig(learning_rate=1e-4).")
    return config
