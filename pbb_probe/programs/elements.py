"""The elements of calls and answers: the items of lists and tuples, and the letters of texts, in order.

Those of several arguments stand behind one another, and an argument that is neither list, tuple nor text is an element
itself, as is a text with escapes. A single number (as in arithmetic), truth value, set or dict has none.
"""

import ast
from collections.abc import Sequence

from pbb_probe.programs.trace import Trace, label
from pbb_probe.programs.values import Value

MOST = 8
"""Elements of a call or answer that labels and roles are made of; further ones are only counted."""


def element_targets(trace: Trace) -> dict[str, int | str]:
    """What the input and the output of a call are made of, as labels.

    Returns:
        `input_k` and `output_k`, the k-th element, up to `MOST`: letters as they are, other values as `label` has them.
        `input_length` and `output_length`: how many there are. Each only where the input or the output has elements.

    Example:
        >>> element_targets(Trace(([3, 10],), (), (), "oz"))
        {'input_1': 3, 'input_2': 10, 'input_length': 2, 'output_1': 'o', 'output_2': 'z', 'output_length': 2}
    """
    targets: dict[str, int | str] = {}
    for name, values in (("input", trace.arguments), ("output", (trace.output,))):
        if (parts := _elements(values)) is not None:
            targets |= {f"{name}_{k}": part for k, part in enumerate(parts[:MOST], start=1)}
            targets[f"{name}_length"] = len(parts)
    return targets


def element_spans(call: str) -> list[tuple[int, int]]:
    """The characters (start, end) of each element in the text of a call, as in `Trace.call_text`.

    Raises:
        ValueError, SyntaxError: it is no such text.

    Example:
        >>> call = "[3, 10], 'oz'"
        >>> [call[start:end] for start, end in element_spans(call)]
        ['3', '10', 'o', 'z']
    """
    written = ast.parse(f"[{call}]", mode="eval").body
    arguments = written.elts if isinstance(written, ast.List) else []
    spans: list[tuple[int, int]] = []
    for node in arguments:
        start, end = _characters(node, call)
        match node:
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                spans += [_characters(part, call) for part in parts]
            case ast.Constant(value=str(text)) if call[start + 1 : end - 1] == text:
                spans += [(k, k + 1) for k in range(start + 1, end - 1)]
            case _ if len(arguments) > 1 or isinstance(getattr(node, "value", None), str):
                spans.append((start, end))
    return spans


def _elements(values: Sequence[Value]) -> list[int | str] | None:
    """The labels of the elements of values; None where they have none."""
    if len(values) == 1 and not isinstance(values[0], list | tuple | str):
        return None
    parts: list[int | str] = []
    for value in values:
        if isinstance(value, str) and repr(value)[1:-1] == value:
            parts += list(value)
        else:
            parts += map(label, value if isinstance(value, list | tuple) else [value])
    return parts


def _characters(node: ast.expr, call: str) -> tuple[int, int]:
    """Where a node of `[call]` stands in the call; Python counts bytes, and the bracket before it."""
    whole = call.encode()
    start, end = node.col_offset - 1, (node.end_col_offset or 0) - 1
    return len(whole[:start].decode()), len(whole[:end].decode())
