"""Where does a language model evaluate a program it has only read? The public names, imported when first used.

What everyone needs stands here; the rest stands by subject in `metrics`, `tables`, `controls`, `prompts` and `figures`.
The list of names is `__init__.pyi`.
"""

from importlib import import_module
from typing import Any
from warnings import warn

import lazy_loader

from pbb_probe._moved import MOVED

_resolve, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name not in MOVED:
        return _resolve(name)
    module, _, attribute = MOVED[name].rpartition(".")
    warn(
        f"pbb_probe.{name} has moved to pbb_probe.{MOVED[name]}: the old name goes with the next release.",
        FutureWarning,
        stacklevel=2,
    )
    return getattr(import_module(f"pbb_probe.{module}"), attribute)
