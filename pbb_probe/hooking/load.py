"""Any Hugging Face causal language model -> TransformerBridge, its logits checked against the model's own."""

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError, first_line
from pbb_probe.models.adapters import load_adapter, merged
from pbb_probe.models.bases import load_base, load_tokenizer
from pbb_probe.models.parity import (
    assert_parity,
    forward_of,
    logits_alone,
    logits_together,
    refuse_noncausal,
    some_prompts,
)
from pbb_probe.schema import AnyPlace, Seed, checks_arguments, shown

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@checks_arguments
def load_model(
    model: "str | Path | PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: AnyPlace | None = None,
    device: str | None = None,
    dtype: "torch.dtype | str | None" = None,
) -> "TransformerBridge":
    """A model opened with TransformerLens.

    The opened model computes what the given one does, token by token: before anything is hooked, the logits of a few
    prompts of unequal lengths are taken from it, each prompt alone; afterwards, from the opened one, side by side.

    Args:
        model: `nano`, a local directory, a hub id, or a Hugging Face model in memory. A model in memory is taken over:
            its modules are wrapped in place, its attention is made eager, and it returns its outputs by name, so save
            it before, not after.
        tokenizer: used as it is and left as it is, also where the model comes from a directory. When None, the one that
            an adapter brings, else the model's own.
        adapter: a PEFT adapter directory, merged into the weights in float32 before anything is hooked (unmerged
            adapters on fused projections would be ignored silently) and checked against the unmerged one.
        device: where the model goes; it stays where it is when None.
        dtype: of the weights, such as `torch.bfloat16` or "bfloat16"; adapters are merged and the parity checked
            before. What Hugging Face keeps in float32 stays so: rotary frequencies, and modules a model names.

    Returns:
        The bridge in eval mode, its tokenizer at `.tokenizer`. `to_tokens` gives that tokenizer's own tokens.

    Raises:
        PbbError: unknown or damaged model or adapter, one that cannot be merged, an unknown device or dtype, an
            architecture TransformerLens has no adapter for, a model that is not causal, or hooked logits that differ
            from the model's own.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_model
        (6, 4, 128)
        >>> model(model.to_tokens("fuxguk(3) =")).shape  # (prompt, position, d_vocab)
        torch.Size([1, 6, 2176])
    """
    to_dtype, to_device = _dtype(dtype), _device(device)
    if tokenizer is None and adapter is not None:
        tokenizer = _tokenizer_beside(adapter)
    if isinstance(model, (str, Path)):
        hf_model, tokenizer = load_base(model, tokenizer=tokenizer)
    elif not hasattr(model, "eval") or not hasattr(model, "config"):
        raise PbbError(f"model must be a name, a directory or a Hugging Face model, not {shown(model)}.")
    else:
        hf_model = model.eval()
        if tokenizer is None and hf_model.config.name_or_path:
            tokenizer = load_tokenizer(hf_model.config.name_or_path)
    hf_model.config.return_dict = True
    if adapter is not None:
        hf_model = merged(load_adapter(hf_model.float(), adapter))
    hf_model.requires_grad_(False)
    if to_device is not None:
        hf_model.to(to_device)  # type: ignore[arg-type]
    prompts = some_prompts(hf_model)
    reference = _own_logits(hf_model, prompts)
    planned = [] if to_dtype is None else _dtypes_of_hugging_face(hf_model, to_dtype)
    bridge = _wrapped(hf_model)
    _keep_tokenizer(bridge, tokenizer)
    assert_parity(_hooked_logits(bridge, prompts), reference)
    if to_dtype is not None:
        _cast(bridge, planned, to_dtype)
        _hooked_logits(bridge, prompts)  # in half precision some of TransformerLens's models cannot be run
    return bridge


@checks_arguments
def untrained_model(model: "TransformerBridge", seed: Seed = 0) -> "TransformerBridge":
    """The same architecture as it is initialised before any training: a control for whatever is found in a model.

    TransformerLens's `random_init_bridge` does this for a model of the hub; here for any opened one.

    Args:
        model: left as it is; the tokenizer is shared.
        seed: of the weights.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> untrained = pbb.controls.untrained_model(model)
        >>> untrained.cfg.n_layers == model.cfg.n_layers, untrained.W_E.equal(model.W_E)
        (True, False)
    """
    import torch

    opened = model.original_model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fresh = type(opened)(copy.deepcopy(opened.config)).float()
    dtype = None if opened.dtype == torch.float32 else opened.dtype
    if model.tokenizer is None:
        fresh.config.name_or_path = ""  # a model that was opened without a tokenizer stays without
    return load_model(fresh, model.tokenizer, device=str(model.cfg.device), dtype=dtype)


def _own_logits(hf_model: "PreTrainedModel", prompts: "list[torch.Tensor]") -> "torch.Tensor":
    """The model's own logits of each prompt alone, from a model that is causal."""
    try:
        reference: torch.Tensor = logits_alone(forward_of(hf_model), prompts)
        refuse_noncausal(hf_model, prompts, reference)
    except PbbError:
        raise
    except Exception as error:  # whatever a model's own code raises
        raise PbbError(f"{type(hf_model).__name__} itself cannot be run on tokens ({first_line(error)}).") from error
    return reference


def _wrapped(hf_model: "PreTrainedModel") -> "TransformerBridge":
    """The model with TransformerLens's hooks, and without a tokenizer: it would be exchanged for another."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    try:
        return build_bridge_from_module(hf_model, type(hf_model).__name__, hf_config=hf_model.config).eval()
    except Exception as error:  # adapters raise whatever their assumptions break with
        raise PbbError(f"TransformerLens cannot open {type(hf_model).__name__} ({first_line(error)}).") from error


def _hooked_logits(bridge: "TransformerBridge", prompts: "list[torch.Tensor]") -> "torch.Tensor":
    """The logits of prompts side by side, as `capture` runs them."""
    try:
        logits: torch.Tensor = logits_together(bridge, prompts)
    except Exception as error:
        name = type(bridge.original_model).__name__
        raise PbbError(f"TransformerLens opens {name} and cannot run it ({first_line(error)}).") from error
    return logits


def _keep_tokenizer(bridge: "TransformerBridge", tokenizer: "PreTrainedTokenizerBase | None") -> None:
    """Give the bridge this tokenizer, unchanged, and say how it begins and ends texts.

    TransformerLens would load another one from its name, which begins texts with BOS and has lost added tokens.
    """
    from transformer_lens.model_bridge.sources import detect_tokenizer_bos_eos

    if tokenizer is None:
        return
    bridge.tokenizer = tokenizer
    begins, ends = detect_tokenizer_bos_eos(tokenizer)
    cfg = bridge.cfg
    cfg.tokenizer_prepends_bos = cfg.default_prepend_bos = begins  # so that `to_tokens` adds and removes nothing
    cfg.tokenizer_appends_eos = ends


def _tokenizer_beside(adapter: str | Path) -> "PreTrainedTokenizerBase | None":
    """The tokenizer saved with an adapter, if there is one."""
    directory = Path(adapter).expanduser()
    return load_tokenizer(directory) if (directory / "tokenizer_config.json").is_file() else None


def _dtype(dtype: Any) -> "torch.dtype | None":
    import torch

    if dtype is None:
        return None
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if (name := str(dtype).removeprefix("torch.")) not in known:
        raise PbbError(f"Unknown dtype {dtype!r}: choose from {', '.join(known)}.")
    return known[name]


def _device(device: Any) -> "torch.device | None":
    import torch

    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, TypeError) as error:
        raise PbbError(
            f"There is no device {str(device)!r} here ({first_line(error)}): leave device out, or choose cpu."
        ) from error


def _cast(bridge: "TransformerBridge", planned: "list[tuple[torch.Tensor, torch.dtype]]", dtype: "torch.dtype") -> None:
    """Give weights and buffers the dtypes planned for them, and `dtype` to those that TransformerLens has added."""
    known = {id(tensor) for tensor, _ in planned}
    every = (*bridge.parameters(), *bridge.buffers())
    added = [(tensor, dtype) for tensor in every if tensor.is_floating_point() and id(tensor) not in known]
    for tensor, its_dtype in (*planned, *added):
        tensor.data = tensor.data.to(its_dtype)
    bridge.cfg.dtype = dtype


def _dtypes_of_hugging_face(
    hf_model: "PreTrainedModel", dtype: "torch.dtype"
) -> "list[tuple[torch.Tensor, torch.dtype]]":
    """Each weight and buffer of a model, not yet hooked, with the dtype it has when Hugging Face loads it in `dtype`.

    Not all have that one: rotary frequencies stay in float32, and so do modules that a model names. A model of the same
    class made without memory tells.
    """
    import torch
    from transformers.initialization import no_init_weights

    given: Any = hf_model
    names = set(getattr(given, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        names |= set(getattr(given, "_keep_in_fp32_modules", None) or ())
    kept = re.compile("|".join(map(re.escape, names)) or r"(?!)")
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"), no_init_weights():
            like = type(hf_model)(copy.deepcopy(hf_model.config))
    finally:
        torch.set_default_dtype(before)
    made = {name: buffer.dtype for name, buffer in like.named_buffers() if name not in like.state_dict()}
    tensors = [*hf_model.named_parameters(), *hf_model.named_buffers()]
    return [
        (tensor, made.get(name, torch.float32 if kept.search(name) else dtype))
        for name, tensor in tensors
        if tensor.is_floating_point()
    ]
