"""PEFT adapters merged into weights, and checked: the merged model computes what the adapter did.

Where several modules share a weight (tied embeddings, replicated layers), each module first gets a copy of its own:
otherwise adding the adapter of one module would change the others.
"""

import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError, first_line
from pbb_probe.models.checkpoints import ADAPTER, ADAPTER_WEIGHTS, check_adapter
from pbb_probe.models.parity import PARITY, forward_of, logits_alone, some_prompts, spread_between

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_adapter(hf_model: "PreTrainedModel", adapter: str | Path) -> Any:
    """A model with the adapter of a directory on it, a `PeftModel` in eval mode.

    Raises:
        PbbError: no adapter is there, it is damaged, or made for another model or another vocabulary.
    """
    from peft import PeftModel

    directory = Path(adapter).expanduser()
    if not (directory / ADAPTER).is_file() or not (directory / ADAPTER_WEIGHTS).is_file():
        raise PbbError(f"{adapter} is no PEFT adapter: it needs {ADAPTER} and {ADAPTER_WEIGHTS}.")
    _refuse_other_vocabulary(hf_model, directory)
    try:
        check_adapter(directory)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "error", message="Found missing adapter keys"
            )  # otherwise it would be merged as if it were complete
            return PeftModel.from_pretrained(hf_model, str(directory)).eval()
    except PbbError:
        raise
    except Exception as error:  # peft, safetensors and torch each have their own kinds
        raise PbbError(f"The adapter {adapter} does not fit this model ({first_line(error)}).") from error


def merged(peft_model: Any) -> "PreTrainedModel":
    """A model with its adapter in its weights, in float32.

    Raises:
        PbbError: an adapter of a kind that cannot be merged, or whose merged logits are not those it gives unmerged.
    """
    peft_model = peft_model.float().eval()
    prompts = some_prompts(peft_model)
    expected = logits_alone(forward_of(peft_model), prompts)
    kind = str(peft_model.active_peft_config.peft_type).rpartition(".")[2]
    try:
        _give_each_its_own(peft_model)
        hf_model: PreTrainedModel = peft_model.merge_and_unload().eval()
    except Exception as error:  # such as prompt tuning, which changes no weights
        raise PbbError(
            f"This adapter ({kind}) cannot be merged into the weights ({first_line(error)}), which probing and "
            "patching need: use one that PEFT can merge, such as plain LoRA."
        ) from error
    _say_whether_tied(hf_model)
    difference = spread_between(logits_alone(forward_of(hf_model), prompts), expected)
    if not difference <= PARITY:
        raise PbbError(
            f"Merged into the weights, this adapter ({kind}) gives logits {difference:.2g} of their spread away from "
            f"those it gives unmerged (at most {PARITY} is the same model): it does more than a weight can hold."
        )
    return hf_model


def _give_each_its_own(peft_model: Any) -> None:
    """Give each module its own copy of a weight that it shares. Tied embeddings stay tied unless one is adapted."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = list(peft_model.modules())
    owners = Counter(id(weight) for module in modules for weight in module._parameters.values())
    adapted = {id(layer.get_base_layer()) for layer in modules if isinstance(layer, BaseTunerLayer)}
    embeddings = {id(weight) for weight in peft_model.get_input_embeddings().parameters()}
    for module in modules:
        for name, weight in module._parameters.items():
            if (
                weight is not None
                and owners[id(weight)] > 1
                and (id(module) in adapted or id(weight) not in embeddings)
            ):
                module._parameters[name] = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)


def _say_whether_tied(hf_model: Any) -> None:
    """Correct the config where embeddings are no longer tied: otherwise saving and loading would tie them again."""
    first, last = hf_model.get_input_embeddings(), hf_model.get_output_embeddings()
    if first is not None and last is not None and first.weight is not last.weight:
        for config in (hf_model.config, hf_model.config.get_text_config()):
            config.tie_word_embeddings = False


def _refuse_other_vocabulary(hf_model: "PreTrainedModel", directory: Path) -> None:
    """Refuse an adapter that was trained after tokens were added: its embeddings have more rows than the model's."""
    from safetensors import safe_open

    rows = next(hf_model.get_input_embeddings().parameters()).shape[0]
    try:
        with safe_open(directory / ADAPTER_WEIGHTS, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception:  # damaged: peft says how
        return
    for name, shape in shapes.items():
        parts = name.split(".")
        whole = "lora_" not in name and len(shape) == 2 and parts[-1] == "weight"
        if whole and {"embed_tokens", "wte", "lm_head", "embed_in", "embed_out"} & set(parts) and shape[0] != rows:
            raise PbbError(
                f"The adapter {directory} was trained with {shape[0]} tokens in the vocabulary; the model has {rows}: "
                f"call resize_token_embeddings({shape[0]}) on the model first and give load_model that model, with the "
                "adapter's tokenizer."
            )
