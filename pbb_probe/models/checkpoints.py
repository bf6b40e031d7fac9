"""Does the config of a local model fit its weights? If not, the model is refused before it is built.

Otherwise a config that asks for a billion layers would be built, and filled with random weights where the files have
none.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pbb_probe.errors import PbbError
from pbb_probe.schema import checked, shown, whole

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
SIZES = (
    "hidden_size", "n_embd", "d_model", "intermediate_size", "vocab_size", "num_attention_heads", "n_head",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "n_positions",
)  # fmt: skip
INDEX = "model.safetensors.index.json"
MOST_LAYERS = 9999
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ADAPTER_SIZES = ("r", "init_r", "num_virtual_tokens", "n_frequency")
PACKED = 16
"""How many quantised weights one number in a file may hold."""


def check_checkpoint(directory: Path) -> None:
    """Refuse a directory with an impossible config or index, before transformers reads them.

    Raises:
        PbbError: a file that is no JSON object, a size outside any sensible range, or shards outside the directory.
    """
    for path in (directory / "config.json", directory / INDEX):
        if path.is_file():
            fields = _json_object(path)
            if path.name == INDEX:
                _check_shards(path, fields)
            else:
                _check_sizes(path, fields)


def check_built(directory: Path, config: "PretrainedConfig") -> None:
    """Refuse a config whose model has far more weights than the files of its directory.

    Raises:
        PbbError: it has, or the number of layers differs.
    """
    import torch
    from transformers import AutoModelForCausalLM

    shapes = dict(_shapes(directory))
    if not shapes:
        return  # transformers says what is missing
    n_layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    layers = {
        int(numbered[1]) for name in shapes if (numbered := re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.", name))
    }
    # layers that predict further tokens are kept behind those of the model
    n_extra = getattr(config.get_text_config(), "num_nextn_predict_layers", 0) or 0
    if layers and n_layers is not None and not 0 <= max(layers) + 1 - n_layers <= n_extra:
        raise PbbError(
            f"The config of {directory} says {n_layers} layers and its weights have {max(layers) + 1}: give the config "
            "and the weights of one model."
        )
    with torch.device("meta"):
        unfilled = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    wanted = sum(weight.numel() for weight in unfilled.parameters())
    held = sum(math.prod(shape) for shape in shapes.values())
    if wanted > PACKED * held:
        raise PbbError(
            f"The config of {directory} describes {wanted:.3g} weights and its files have {held:.3g}: give the config "
            "and the weights of one model."
        )


def check_adapter(directory: Path) -> None:
    """Refuse a PEFT adapter whose config gives a rank, or another leading size, that its weights do not have.

    Files that cannot be read are left to PEFT, which says what is wrong with them.

    Raises:
        PbbError: it does, or its layer replication makes more layers than any model has.
    """
    from safetensors import SafetensorError

    path = directory / ADAPTER
    try:
        config, shapes = _json_object(path), dict(_shapes(directory, ADAPTER_WEIGHTS))
    except (PbbError, SafetensorError, OSError):
        return
    low_rank = [shape for name, shape in shapes.items() if "lora_A" in name or "lora_embedding_A" in name]
    most = max((shape[0] for shape in low_rank or shapes.values() if shape), default=0)
    patterns = config.get("rank_pattern")
    sizes = [(name, config.get(name)) for name in ADAPTER_SIZES]
    sizes += [("rank_pattern", rank) for rank in (patterns.values() if isinstance(patterns, dict) else ())]
    for name, size in sizes:
        if isinstance(size, int) and size > most:
            raise PbbError(
                f"{path} says {name} {shown(size)} and the weights beside it have {most} at most: give the config and "
                "the weights of one adapter."
            )
    try:
        layers = sum(end - start for start, end in config.get("layer_replication") or ())
    except (TypeError, ValueError):
        return
    if layers > MOST_LAYERS:
        raise PbbError(f"{path} repeats layers until there are {layers}: give at most {MOST_LAYERS}.")


def _json_object(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PbbError(f"{path} cannot be read as JSON ({' '.join(str(error).split())[:150]}).") from error
    if not isinstance(fields, dict) or not fields:
        raise PbbError(f"{path} must be a JSON object with fields, not {shown(fields)}.")
    return fields


def _check_sizes(path: Path, config: dict[str, Any]) -> None:
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for names, most in ((LAYERS, MOST_LAYERS), (SIZES, 2**31 - 1)):
            for name in names:
                if part.get(name) is not None:
                    checked(f"{name} in {path}", part[name], Annotated[int, whole(1, most)])


def _check_shards(path: Path, index: dict[str, Any]) -> None:
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise PbbError(f"{path} has no `weight_map` of weights to files: give the index of this model.")
    for shard in shards.values():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in (".", ".."):
            raise PbbError(f"{path} names the shard {shown(shard)}: shards are files beside it.")


def _shapes(directory: Path, pattern: str = "model*.safetensors") -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of each tensor in the safetensors files of a directory."""
    from safetensors import safe_open

    for path in sorted(directory.glob(pattern)):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                yield name, tuple(file.get_slice(name).get_shape())
