"""What a view shows is in its address: the value of every control, and which prompts are selected."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np


MOST_PARAMETERS = 100


def read_query(search: str | None) -> dict[str, str]:
    """The parameters of an address's query, `?role=answer&layer=3`.

    Raises:
        PbbError: there are too many.
    """
    query = (search or "").removeprefix("?")
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS))
    except ValueError as error:
        raise PbbError(f"The address has more than {MOST_PARAMETERS} parameters: choose a view above.") from error


def chosen(query: Mapping[str, str], name: str, options: Sequence[str], default: str | None = None) -> str:
    """The value of a parameter if it is one of the options, else the default, else the first option.

    An address is typed by hand or of another run at times: what it asks for in vain is left out.
    """
    wanted = [value for value in (query.get(name), default) if value in options]
    return next((str(value) for value in (*wanted, *options)), "")


def encode_selection(selected: "np.ndarray") -> str:
    """A selection of prompts [prompt] as text: a bit a prompt, the first one lowest, base64 for addresses."""
    import numpy as np

    return base64.urlsafe_b64encode(np.packbits(selected, bitorder="little").tobytes()).decode().rstrip("=")


def decode_selection(text: str | None, n: int) -> "np.ndarray | None":
    """The selection of `n` prompts that `encode_selection` wrote; None for no selection, or one of other prompts."""
    import numpy as np

    try:
        packed = base64.urlsafe_b64decode((text or "") + "=" * (-len(text or "") % 4))
    except ValueError:
        return None
    if len(packed) != (n + 7) // 8:
        return None
    selected = np.unpackbits(np.frombuffer(packed, np.uint8), count=n, bitorder="little").astype(bool)
    return selected if selected.any() else None
