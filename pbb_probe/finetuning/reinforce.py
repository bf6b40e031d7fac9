"""Reinforcement: a stage in which the model answers calls and is rewarded for exact answers (TRL's GRPO).

The prompts are those of the stage's `io` and `trace` documents; no answer is shown. The reward is 1 when the answer
read from a completion is the right one and 0 otherwise; the advantage compares the answers sampled for one prompt.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Stage, stage_documents
from pbb_probe.finetuning.trainer import training_arguments
from pbb_probe.models.answers import is_right, longest_answer, read_answer
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.documents import MODE_OF
from pbb_probe.programs.templates import Mode

if TYPE_CHECKING:
    from trl import GRPOTrainer  # type: ignore[attr-defined]


def grpo_trainer(
    model: Any, tokenizer: Any, stage: Stage, corpus: Corpus, config: TrainConfig, seed: int, checkpoints: Path
) -> "GRPOTrainer":
    """The trainer of a stage: `config.generations` answers a prompt, `config.batch_size` answers a step.

    Raises:
        PbbError: answers that do not fill whole prompts, or a base with learned positions (TRL pads on the left and
            numbers positions from there).
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

    refuse_unfit(model, config)
    documents = []
    for phase in stage_documents(stage, corpus, seed):
        rendered = list(phase)
        documents += [rendered[i] for i in phase.order]
    rows = [
        {
            "prompt": [{"role": "user", "content": document.prompt}] if tokenizer.chat_template else document.prompt,
            "mode": MODE_OF[document.kind],
            "answer": read_answer(document.completion, MODE_OF[document.kind]),
        }
        for document in documents
    ]
    steps = len(rows) * config.generations // config.batch_size
    longest = longest_answer(tokenizer, [d.prompt for d in documents], [d.completion for d in documents])

    def exact_answer(completions: list[Any], mode: list[Mode], answer: list[str], **_: Any) -> list[float | None]:
        texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
        return [
            float(is_right(read_answer(text, asked), right))
            for text, asked, right in zip(texts, mode, answer, strict=True)
        ]

    return GRPOTrainer(
        model=model,
        reward_funcs=exact_answer,
        args=GRPOConfig(
            **{"gradient_checkpointing": False} | training_arguments(stage, config, seed, steps, checkpoints),
            num_generations=config.generations,
            max_completion_length=longest,
            temperature=1.0,
            beta=0.0,
            shuffle_dataset=False,  # shuffled already, the same way on every machine
            chat_template_kwargs={"enable_thinking": False},
            cast_lm_head_to_fp32=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def refuse_unfit(model: Any, config: TrainConfig) -> None:
    """Refuse a model or settings with which reinforcement is impossible.

    Raises:
        PbbError: as `grpo_trainer`.
    """
    if config.batch_size % config.generations:
        raise PbbError(
            f"batch_size ({config.batch_size}) must be a multiple of generations ({config.generations}): the answers "
            "of a step are drawn to whole prompts."
        )
    if any(name.endswith(("wpe.weight", "embed_positions.weight")) for name, _ in model.named_parameters()):
        raise PbbError(
            "This base has learned positions, which GRPO's left padding shifts: take one with rotary positions, or a "
            "curriculum without reinforcement."
        )
