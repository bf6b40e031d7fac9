"""Any Hugging Face causal language model -> TransformerBridge, its logits checked against the model's own."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.bases import load_base, load_tokenizer

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PARITY = 1e-4
"""Largest difference of logits, relative to their standard deviation, that is still the same model in float32."""


def load_model(
    model: "str | Path | PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    device: str | None = None,
    dtype: Any = None,
) -> "TransformerBridge":
    """A model opened with TransformerLens.

    Args:
        model: `nano`, a local directory, a hub id, or a Hugging Face model in memory. A model in memory is taken over:
            its modules are wrapped in place and its attention is made eager, so save it before, not after.
        tokenizer: of a model in memory; otherwise it comes with the model.
        adapter: a PEFT adapter directory, merged into the weights in float32 before anything is hooked (unmerged
            adapters on fused projections would be ignored silently).
        device: where the model goes; it stays where it is when None.
        dtype: of the weights, such as `torch.bfloat16`; adapters are merged and the parity checked before.

    Returns:
        The bridge in eval mode, its tokenizer at `.tokenizer`.

    Raises:
        PbbError: unknown or damaged model or adapter, an architecture TransformerLens has no adapter for, or hooked
            logits that differ from the model's own.
    """
    import torch
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    if isinstance(model, (str, Path)):
        hf_model, tokenizer = load_base(model)
    else:
        hf_model = model.eval()
        if tokenizer is None and hf_model.config.name_or_path:
            tokenizer = load_tokenizer(hf_model.config.name_or_path)
    if adapter is not None:
        hf_model = _merge(hf_model.float(), adapter)
    hf_model.requires_grad_(False)
    if device is not None:
        hf_model.to(device)  # type: ignore[arg-type]
    tokens = _some_tokens(hf_model)
    reference = hf_model(tokens).logits
    try:
        bridge = build_bridge_from_module(
            hf_model, type(hf_model).__name__, hf_config=hf_model.config, tokenizer=tokenizer
        )
    except ValueError as error:
        raise PbbError(
            f"TransformerLens cannot open {type(hf_model).__name__} ({str(error).splitlines()[0]})."
        ) from error
    bridge.eval()
    assert_parity(bridge(tokens), reference, PARITY if reference.dtype == torch.float32 else 0.05)
    return bridge if dtype is None else bridge.to(dtype)


def untrained_model(model: "TransformerBridge", seed: int = 0) -> "TransformerBridge":
    """The same architecture as it is initialised before any training: a control for whatever is found in a model.

    TransformerLens's `random_init_bridge` does this for a model of the hub; here for any opened one.

    Args:
        model: left as it is; the tokenizer is shared.
        seed: of the weights.
    """
    import torch

    opened = model.original_model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fresh = type(opened)(copy.deepcopy(opened.config)).float()
    dtype = None if opened.dtype == torch.float32 else opened.dtype
    return load_model(fresh, model.tokenizer, device=str(model.cfg.device), dtype=dtype)


def assert_parity(logits: Any, reference: Any, tolerance: float = PARITY) -> None:
    """Refuse a hooked model that is not the model it was made from.

    Raises:
        PbbError: with the largest difference found, relative to the standard deviation of the reference.
    """
    difference = ((logits - reference).abs().max() / reference.float().std()).item()
    if not difference <= tolerance:  # also when it is NaN
        raise PbbError(
            f"The hooked model's logits differ from the model's own by {difference:.2g} of their spread (at most "
            f"{tolerance} is the same model): its weights hold NaN, or TransformerLens computes it unfaithfully."
        )


def _merge(hf_model: "PreTrainedModel", adapter: str | Path) -> "PreTrainedModel":
    import warnings

    from peft import PeftModel

    directory = Path(adapter).expanduser()
    if not (directory / "adapter_config.json").is_file() or not (directory / "adapter_model.safetensors").is_file():
        raise PbbError(f"{adapter} is no PEFT adapter: it needs adapter_config.json and adapter_model.safetensors.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")  # else merged as if it were whole
            return PeftModel.from_pretrained(hf_model, str(directory)).merge_and_unload().eval()
    except Exception as error:  # peft, safetensors and torch each have their own kinds
        raise PbbError(
            f"The adapter {adapter} does not fit this model ({str(error).splitlines()[0][:200]})."
        ) from error


def _some_tokens(hf_model: "PreTrainedModel"):
    """[2, 16] token ids, the same ones each time."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(hf_model.config.vocab_size, (2, 16), generator=generator).to(hf_model.device)
