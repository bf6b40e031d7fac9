"""Pairs of prompts from a file: JSON lines with two texts, their two answers, and where the roles stand in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.files import numbered_lines, role_span
from pbb_probe.hooking.prompts import Prompts, Span
from pbb_probe.patching.pairs import Pairs

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge


def read_pairs(path: str | Path, model: "TransformerBridge", gap: str = " ", special_tokens: bool = True) -> Pairs:
    """Read the pairs of a JSONL file, an object a line.

    `clean` and `corrupted` are the texts of the two prompts and `answers` is a list of their answers, the clean one
    first. `roles`, which may be left out, names places: each is a text that stands exactly once in the prompt, or the
    characters [start, end]; one for both prompts, or a list of the clean and the corrupted one's. All further fields
    are labels, again one for both prompts or a list of two: `program` says which pairs belong together, and with
    `program`, `source` and `call` the pairs will do for `transfer_map`.

    Args:
        path: of the file.
        model: whose tokenizer is used.
        gap: what stands between a prompt and its answer.
        special_tokens: let the tokenizer add those it begins texts with; not where the texts bring them.

    Returns:
        The pairs, with their answers as the label `output`, as those of `make_pairs` have it.

    Raises:
        PbbError: no such file, no pairs in it, or a line that is not as said above (the message names it).
    """
    import pandas as pd

    texts: tuple[list[str], list[str]] = ([], [])
    labels: tuple[list[dict], list[dict]] = ([], [])
    roles: tuple[list[dict[str, Span]], list[dict[str, Span]]] = ([], [])
    for number, line in numbered_lines(path):
        try:
            found = _pair(json.loads(line))
            if roles[0] and set(found[0][1]) != set(roles[0][0]):
                raise ValueError(f"its roles are not those of the first line, {', '.join(roles[0][0]) or 'none'}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise PbbError(
                f"Line {number} of {path} is no pair of prompts ({reason}): give an object with `clean`, `corrupted`, "
                "`answers`, a list of two, and `roles`."
            ) from error
        for i, (text, spans, known) in enumerate(found):
            texts[i].append(text)
            roles[i].append(spans)
            labels[i].append(known)
    if not texts[0]:
        raise PbbError(f"There are no pairs in {path}: give a JSON object a line.")
    clean, corrupted = (
        Prompts.from_texts(
            model,
            texts[i],
            {role: [spans[role] for spans in roles[i]] for role in roles[i][0]},
            pd.DataFrame(labels[i]),
            gap=gap,
            special_tokens=special_tokens,
        )
        for i in (0, 1)
    )
    return Pairs(clean, corrupted)


def _pair(row: Mapping[str, Any]) -> list[tuple[str, dict[str, Span], dict[str, Any]]]:
    """Text, roles and labels of the clean and of the corrupted prompt."""
    texts = [row["clean"], row["corrupted"]]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("`clean` and `corrupted` are not texts")
    answers = row["answers"]
    if not isinstance(answers, list) or len(answers) != 2:
        raise ValueError("`answers` is not a list of the clean and the corrupted answer")
    places = {role: _of_each(place) for role, place in row.get("roles", {}).items()}
    others = {
        name: value if isinstance(value, list) and len(value) == 2 else [value, value]
        for name, value in row.items()
        if name not in ("clean", "corrupted", "answers", "roles")
    }
    return [
        (
            text,
            {role: role_span(role, place[i], text) for role, place in places.items()},
            {name: value[i] for name, value in others.items()} | {"output": answers[i]},
        )
        for i, text in enumerate(texts)
    ]


def _of_each(place: Any) -> list:
    """The place in the clean and in the corrupted prompt: the same one, unless there are two."""
    both = isinstance(place, list) and len(place) == 2 and not all(isinstance(end, int) for end in place)
    return place if both else [place, place]
