"""Names learn faster: what a model reads of a program is stored first of all in the embedding of the program's name.

Weights that evaluate programs are shared by all of them, and a rate high enough to store a thousand programs within
some minutes destroys them. A name that is one token has an embedding to itself, which may move further in each step.
"""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainerCallback


def single_tokens(names: Iterable[str], tokenizer: Any) -> list[int]:
    """The ids of names that are one token, at a text's start or behind a space.

    Example:
        >>> from pbb_probe.models.bases import load_base
        >>> _, tokenizer = load_base("nano")
        >>> tokenizer.convert_ids_to_tokens(single_tokens(["bim", "no_such_name"], tokenizer))
        ['bim']
    """
    ids = set()
    for name in names:
        for text in (name, f" {name}"):
            match tokenizer(text, add_special_tokens=False)["input_ids"]:
                case [token] if token != tokenizer.unk_token_id:
                    ids.add(token)
    return sorted(ids)


class FasterNames(TrainerCallback):
    """Lengthens each optimizer step of some rows of the token embeddings.

    Args:
        ids: the rows.
        rate: by how much.
    """

    def __init__(self, ids: list[int], rate: float):
        self.ids, self.rate = torch.tensor(ids), rate
        self.before = torch.empty(0)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the rows."""
        embeddings = _embeddings(kwargs["model"])
        self.ids = self.ids.to(embeddings.device)
        self.before = embeddings[self.ids]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move them on in the direction of the step."""
        embeddings = _embeddings(kwargs["model"])
        embeddings[self.ids] = torch.lerp(self.before, embeddings[self.ids], self.rate)


def _embeddings(model: Any) -> torch.Tensor:
    embeddings: torch.Tensor = model.get_input_embeddings().weight.data
    return embeddings
