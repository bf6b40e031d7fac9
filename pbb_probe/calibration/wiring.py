"""Features, tables and moves -> the weights of a Llama that does just that.

A feature is a direction of the residual stream, all of them orthonormal in a random basis. Tokens bring features in;
attention moves features from names or inputs to the answer position; a hidden unit of an MLP fires where all features
that it reads are there and none that it shuns, and then writes others. A large constant keeps RMSNorm close to linear,
and queries and keys lie in the dimensions that rotary embeddings turn so slowly that they do not turn at all.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

Feature: TypeAlias = tuple[str, Hashable]
Along: TypeAlias = "Callable[[Mapping[Feature, float]], torch.Tensor]"
"""What it is about, and its value."""

CONSTANT: Feature = ("constant", "")
START: Feature = ("start", "")
IS_NAME: Feature = ("is name", "")
IS_ANSWER: Feature = ("is answer", "")
END: Feature = ("end", "")

SIZE = 100.0
"""Of the constant; every other feature is about 1, so that they change the norm by about one in a thousand."""
SHARP = 100.0
"""Scale of what a unit reads: half of it on one side of the threshold, half of it on the other."""
ATTENTION = 60.0
"""Attention score of what is attended to, above that of anything else."""
LOGIT = 30.0
ROPE_THETA = 1e12


@dataclass(frozen=True)
class Unit:
    """A hidden unit of an MLP."""

    reads: tuple[Feature, ...]
    writes: Mapping[Feature, float]
    shuns: tuple[Feature, ...] = ()


@dataclass
class Wiring:
    """What every token brings and every block does."""

    n_layers: int
    tokens: dict[str, dict[Feature, float]] = field(default_factory=dict)
    """The features that a token brings; every one brings the constant."""
    units: dict[int, list[Unit]] = field(default_factory=lambda: defaultdict(list))
    """Of each block's MLP."""
    moves: dict[tuple[int, Literal["name", "input"]], list[Feature]] = field(default_factory=lambda: defaultdict(list))
    """What each block's attention takes to answer positions from the name, and from the input."""
    says: dict[str, Feature] = field(default_factory=dict)
    """The feature that makes a token likely."""
    inputs: Sequence[Feature] = ()
    """The features that mark an input."""

    def build(self, tokenizer: "PreTrainedTokenizerBase", d_model: int, seed: int) -> "LlamaForCausalLM":
        """The model, in eval mode.

        Raises:
            PbbError: `d_model` is smaller than the number of features.
        """
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        index = {feature: i for i, feature in enumerate(dict.fromkeys(self._features()))}
        if len(index) > d_model:
            raise PbbError(f"These programs take {len(index)} features: d_model must be at least that, not {d_model}.")
        generator = torch.Generator().manual_seed(seed)
        square = torch.randn(d_model, d_model, generator=generator, dtype=torch.float64)
        basis = torch.linalg.qr(square).Q[: len(index)]  # [feature, d_model]

        def along(features: Mapping[Feature, float]) -> "torch.Tensor":
            """[d_model]: the features that there are, so much of each."""
            chosen = torch.tensor([index[feature] for feature in features], dtype=torch.long)
            vector: torch.Tensor = torch.tensor(list(features.values()), dtype=torch.float64) @ basis[chosen]
            return vector

        d_head = max([32, *map(len, self.moves.values())])
        model: LlamaForCausalLM = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=d_model,
                intermediate_size=max([8, *map(len, self.units.values())]),
                num_hidden_layers=self.n_layers,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=d_head + d_head % 2,
                max_position_embeddings=512,
                rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        ).eval()
        model.requires_grad_(False)
        for name, parameter in model.named_parameters():
            parameter.fill_(SIZE / math.sqrt(d_model) if name.endswith("norm.weight") else 0.0)
        words = tokenizer.get_vocab()
        model.model.embed_tokens.weight += along({CONSTANT: SIZE})
        for word, features in self.tokens.items():
            model.model.embed_tokens.weight[words[word]] += along(features)
        for word, feature in self.says.items():
            model.lm_head.weight[words[word]] = along({feature: LOGIT})
        for layer, block in enumerate(model.model.layers):
            _set_attention(
                block.self_attn,
                [self.moves.get((layer, source), []) for source in ("name", "input")],
                self.inputs,
                along,
            )
            _set_mlp(block.mlp, self.units.get(layer, []), along)
        return model

    def _features(self) -> Iterator[Feature]:
        """Every feature that is named, some more than once."""
        yield from (CONSTANT, START, IS_NAME, IS_ANSWER, END, *self.inputs, *self.says.values())
        for features in (*self.tokens.values(), *self.moves.values()):
            yield from features
        for unit in (unit for units in self.units.values() for unit in units):
            yield from (*unit.reads, *unit.writes, *unit.shuns)


def _set_attention(attention: Any, moved: Sequence[Sequence[Feature]], inputs: Sequence[Feature], along: Along) -> None:
    """A head for names and one for inputs. From where there is nothing to fetch they look at the start of the text."""
    d_head, keys = attention.head_dim, ({IS_NAME: 1.0}, dict.fromkeys(inputs, 1.0))
    scale = ATTENTION * math.sqrt(d_head)
    slow, slower = d_head // 2 - 2, d_head // 2 - 1  # the rotary dimensions of the longest wavelengths
    for head, features in enumerate(moved):
        if not features:
            continue
        first = head * d_head
        attention.q_proj.weight[first + slower] = along({IS_ANSWER: scale})
        attention.k_proj.weight[first + slower] = along(keys[head])
        attention.q_proj.weight[first + slow] = along({CONSTANT: scale / 2 / SIZE})
        attention.k_proj.weight[first + slow] = along({START: 1.0})
        for i, feature in enumerate(features):
            attention.v_proj.weight[first + i] = along({feature: 1.0})
            attention.o_proj.weight[:, first + i] = along({feature: 1.0})


def _set_mlp(mlp: Any, units: Sequence[Unit], along: Along) -> None:
    """silu(SHARP / 2) is SHARP / 2 where a unit fires, and silu(-SHARP / 2) is nothing where it lacks a feature."""
    for i, unit in enumerate(units):
        threshold = {CONSTANT: -(len(unit.reads) - 0.5) / SIZE}
        shunned = dict.fromkeys(unit.shuns, -1.0)
        mlp.gate_proj.weight[i] = SHARP * along(dict.fromkeys(unit.reads, 1.0) | shunned | threshold)
        mlp.up_proj.weight[i] = along({CONSTANT: 1 / SIZE})
        mlp.down_proj.weight[:, i] = along(unit.writes) / (SHARP / 2)
