"""Base models by name: the packaged `nano`, a local Hugging Face directory, or a hub id.

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError, first_line
from pbb_probe.models.checkpoints import ADAPTER, check_adapter, check_built, check_checkpoint
from pbb_probe.models.trained import SETTINGS, refuse_changed
from pbb_probe.schema import Place, checked
from pbb_probe.store.disk import digest, file_hash
from pbb_probe.store.records import refuse_damaged

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOADED = (".json", ".safetensors", ".jinja", ".model", ".txt")
"""Endings of the files of a model that transformers loads: configs, weights, chat template and tokenizer."""


def resolve_base(base: str | Path) -> str:
    """The directory of the packaged model for `nano`; any other name or path unchanged.

    Raises:
        PbbError: a path that does not exist.
    """
    name: str = checked("The model", base, Place)
    if name == "nano":
        return str(files("pbb_probe") / "assets" / "nano")
    looks_local = isinstance(base, Path) or name.startswith((".", "/", "~"))
    path = Path(name).expanduser()
    try:
        is_directory = path.is_dir()
    except OSError:  # a name that is too long for one
        is_directory, looks_local = False, True
    if looks_local and not is_directory:
        raise PbbError(f"There is no model directory {path}: give 'nano', an existing directory or a hub id.")
    return str(path) if is_directory else name


def base_digest(base: str | Path) -> str:
    """What identifies a base model in a cache key: a hash of all that is loaded from its directory, or its hub id.

    Raises:
        PbbError: a path that does not exist, or a file that cannot be read.
    """
    where = Path(resolve_base(base))
    if not where.is_dir():
        return str(base)
    loaded = [path for path in sorted(where.iterdir()) if path.suffix in LOADED and path.name != SETTINGS]
    try:
        return digest({path.name: file_hash(path) for path in loaded if path.is_file()})
    except OSError as error:
        raise PbbError(f"{error.filename} cannot be read ({error.strerror}): make it readable.") from error


def load_tokenizer(base: str | Path) -> "PreTrainedTokenizerBase":
    """The fast tokenizer of a base, with a padding token (the end-of-text token where it has none).

    Raises:
        PbbError: there is none, it is damaged, or it cannot tell which characters a token covers.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve_base(base), trust_remote_code=False)
    except PbbError:
        raise
    except BaseException as error:  # transformers and tokenizers raise many kinds, some of them bare Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # Rust's, which is none
            raise
        raise PbbError(f"The tokenizer of {str(base)!r} cannot be loaded ({first_line(error)}).") from error
    if not tokenizer.is_fast:
        raise PbbError(f"The tokenizer of {str(base)!r} has no offset mapping: give one with a tokenizer.json.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(
    base: str | Path, dtype: str = "float32", tokenizer: "PreTrainedTokenizerBase | None" = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A causal language model in eval mode and its tokenizer, or the one given.

    Raises:
        PbbError: an unknown model, a checkpoint with missing or damaged weights, one that was changed since it was
            trained here, or no usable tokenizer.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    where = resolve_base(base)
    try:
        if Path(where).is_dir():
            refuse_damaged(Path(where))
            refuse_changed(Path(where), LOADED)
            check_checkpoint(Path(where))
            if (Path(where) / ADAPTER).is_file():
                check_adapter(Path(where))  # transformers puts it on the model
            check_built(Path(where), AutoConfig.from_pretrained(where, trust_remote_code=False))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    except PbbError:
        raise
    except Exception as error:  # as above; safetensors' own error is not an OSError
        raise PbbError(
            f"The model {str(base)!r} cannot be loaded ({first_line(error)}): give 'nano', a directory with a "
            "Hugging Face model in safetensors, or a hub id that can be reached."
        ) from error
    model, info = loaded
    if info["missing_keys"] or info["mismatched_keys"]:
        lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        raise PbbError(
            f"The checkpoint {str(base)!r} is damaged: {len(lacking)} weights are missing or misshapen "
            f"(first {lacking[0]})."
        )
    return model.eval(), load_tokenizer(base) if tokenizer is None else tokenizer


def available_device() -> str:
    """cuda where there is one, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
