"""The bare Hugging Face model inside a bridge: the same weights without hook points, its attention given to a function.

TransformerLens wraps a model's modules in place. Here each wrapper is taken off again on shallow copies of the modules,
which share their parameters with the bridge: a second model that costs no memory and leaves the first one alone.
transformers calls attention through a registry of functions (its `AttentionInterface`); ours is one of them.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from einops import pack, rearrange, unpack

from pbb_probe.hooking.engines.protocol import UnsupportedError

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge
    from transformers import PreTrainedModel

ATTENTION = "pbb_probe"
"""The name under which our attention is registered with transformers."""


class Bare:
    """A bridge's model without its wrappers."""

    def __init__(self, bridge: "TransformerBridge", attend: Callable[..., Any] | None = None):
        """`attend(module, query, key, value, mask, **settings)` replaces the model's attention functions."""
        self.bridge = bridge
        self._twins: dict[int, torch.nn.Module] = {}
        self._configs: dict[int, Any] = {}
        self._attend = attend
        if attend is not None:
            _register()
        self.model: PreTrainedModel = self._unwrapped(bridge.original_model)  # type: ignore[assignment]
        self.layers = [self._twins[id(block.original_component)] for block in bridge.blocks]
        self._owners = {
            id(hook): (module, edge)
            for module in bridge.modules()
            if getattr(module, "original_component", None) is not None
            for edge in ("hook_in", "hook_out")
            if (hook := getattr(module, edge, None)) is not None
        }
        self._hooks = bridge.hook_dict
        self.in_tuples = False
        """Do the blocks return tuples? Known once they have run."""

    def module_of(self, hook_name: str) -> "tuple[torch.nn.Module, str]":
        """The module whose input or output passes a hook of the bridge, and `hook_in` or `hook_out`.

        Raises:
            UnsupportedError: the hook belongs to no module of the model itself.
        """
        owner = self._owners.get(id(self._hooks[hook_name]))
        if owner is None or id(owner[0].original_component) not in self._twins:
            raise UnsupportedError(f"the hook {hook_name} belongs to no module of the model itself")
        return self._twins[id(owner[0].original_component)], owner[1]

    def logits(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """What the last block puts out [..., d_model] -> logits [..., d_vocab], by the model's own norm and head."""
        import torch

        flat, leading = pack([hidden], "* d_model")
        single = rearrange(flat, "row d_model -> row 1 d_model")
        parent, name = next(
            (module, name)
            for module in self.model.modules()
            for name, child in module.named_children()
            if isinstance(child, torch.nn.ModuleList) and list(child) == self.layers
        )
        blocks, stand_in = parent._modules[name], copy.copy(self.layers[0])
        stand_in.forward = lambda *_, **__: (single,) if self.in_tuples else single
        parent._modules[name] = torch.nn.ModuleList([stand_in])
        try:
            with torch.inference_mode():
                tokens = torch.zeros(len(single), 1, dtype=torch.long, device=hidden.device)
                logits: torch.Tensor = self.model(input_ids=tokens, use_cache=False).logits
        finally:
            parent._modules[name] = blocks
        (unflattened,) = unpack(rearrange(logits, "row 1 d_vocab -> row d_vocab"), leading, "* d_vocab")
        return unflattened

    @contextmanager
    def caught(self, hook_name: str, keep: "Callable[[torch.Tensor], None]") -> Iterator[None]:
        """Within it, what passes a hook of the bridge is given to `keep`."""
        module, edge = self.module_of(hook_name)

        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            keep(args[0] if args else kwargs["hidden_states"])

        def after(_: Any, __: Any, output: Any) -> None:
            keep(output[0] if isinstance(output, tuple) else output)

        with _hooked(module, edge, before, after):
            yield

    @contextmanager
    def replaced(self, hook_name: str, change: "Callable[[torch.Tensor], torch.Tensor]") -> Iterator[None]:
        """Within it, what passes a hook of the bridge is what `change` makes of it."""
        module, edge = self.module_of(hook_name)

        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            activation = args[0] if args else kwargs["hidden_states"]
            activation.copy_(change(activation))  # in place: the residual stream goes past this module too

        def after(_: Any, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(output[0]).to(output[0].dtype), *output[1:])
            return change(output).to(output.dtype)

        with _hooked(module, edge, before, after):
            yield

    def _unwrapped(self, module: "torch.nn.Module") -> "torch.nn.Module":
        import torch

        module = getattr(module, "original_component", None) or module
        if id(module) in self._twins:
            return self._twins[id(module)]
        twin = copy.copy(module)
        self._twins[id(module)] = twin
        for hooks in [name for name in vars(twin) if "_hooks" in name and isinstance(vars(twin)[name], dict)]:
            vars(twin)[hooks] = type(vars(twin)[hooks])()  # a shallow copy would share the original's
        twin._modules = {name: child and self._unwrapped(child) for name, child in module._modules.items()}
        if (
            self._attend is not None
            and hasattr(module, "config")
            and not isinstance(module.config, (dict, torch.nn.Module))
        ):
            vars(twin)["config"] = self._config(module.config)
        vars(twin)["attend"] = self._attend
        return twin

    def _config(self, config: Any) -> Any:
        if id(config) not in self._configs:
            own = copy.copy(config)
            own._attn_implementation = ATTENTION
            self._configs[id(config)] = own
        return self._configs[id(config)]


@contextmanager
def _hooked(
    module: "torch.nn.Module", edge: str, before: Callable[..., None], after: Callable[..., Any]
) -> Iterator[None]:
    if edge == "hook_in":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, lambda module, *args, **kwargs: module.attend(module, *args, **kwargs))
    AttentionMaskInterface.register(ATTENTION, eager_mask)  # [batch, 1, query, key], added to the scores
