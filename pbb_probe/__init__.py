"""Where does a language model evaluate a program it has only read? The public names, imported when first used.

What everyone needs stands here; the rest stands by subject in `metrics`, `tables`, `controls`, `prompts` and `figures`.
The list of names is `__init__.pyi`.
"""

from importlib import import_module
from typing import Any
from warnings import warn

import lazy_loader

from pbb_probe._moved import INSTEAD, MOVED

_resolve, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name not in MOVED:
        return _resolve(name)
    module, _, attribute = MOVED[name].rpartition(".")
    instead = f"use {INSTEAD[name]}" if name in INSTEAD else f"it is pbb_probe.{MOVED[name]} now"
    warn(f"pbb_probe.{name} goes with the next release: {instead}.", FutureWarning, stacklevel=2)
    return getattr(import_module(f"pbb_probe.{module}"), attribute)
