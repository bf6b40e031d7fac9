"""Pairs of prompts from texts: two texts, their two answers, and where the roles are in them; one JSON line a pair."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.hooking.files import check_labels, numbered_lines, read_object, read_roles, read_text, role_span
from pbb_probe.hooking.prompts import Prompts, Span
from pbb_probe.hooking.texts import likely_answers
from pbb_probe.patching.pairs import Pairs

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge

TEXTS = ("source", "call")
"""Labels that are read as code."""


def read_pairs(path: str | Path, model: "TransformerBridge", gap: str = " ", special_tokens: bool = True) -> Pairs:
    """Read the pairs of a JSONL file, an object a line.

    `clean` and `corrupted` are the texts of the two prompts and `answers` is a list of their answers, the clean one
    first. What all answers of the file begin with, such as a space before digits, belongs to the prompts. `roles`,
    which may be left out, names places: each is a text that occurs exactly once in the prompt, or its characters
    [start, end]; one for both prompts, or a list of one for each. All further fields are labels,
    again one for both prompts or a list of two: `program` says which pairs belong together, and pairs with `program`,
    `source` and `call` can be given to `transfer_map`.

    Args:
        path: of the file.
        model: whose tokenizer is used.
        gap: what stands between a prompt and its answer.
        special_tokens: let the tokenizer add those it begins texts with; not where the texts bring them.

    Returns:
        The pairs, with their answers as the label `output`, as those of `make_pairs` have it.

    Raises:
        PbbError: no such file, no pairs in it, or a line that is not as said above (the message names it).

    Example:
        >>> import pbb_probe as pbb
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", pbb.load_model("nano"))
        >>> list(pairs.clean.roles)
        ['step_1', 'step_2', 'name', 'input', 'answer']
    """
    rows: list[list[Side]] = []
    for number, line in numbered_lines(path):
        try:
            row = _pair(read_object(line))
            if rows and set(row[0].roles) != set(rows[0][0].roles):
                raise ValueError(f"its roles are not those of the first line, {', '.join(rows[0][0].roles) or 'none'}")
        except (ValueError, KeyError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise PbbError(
                f"Line {number} of {path} is no pair of prompts ({reason}): give an object with `clean`, `corrupted`, "
                "`answers`, a list of two, and `roles`."
            ) from error
        rows.append(row)
    if not rows:
        raise PbbError(f"There are no pairs in {path}: give a JSON object a line.")
    answers = [side.labels["output"] for row in rows for side in row]
    return _pairs(model, rows, gap, special_tokens, answers)


def pair_from_texts(
    model: "TransformerBridge",
    clean: str,
    corrupted: str,
    answers: tuple[str, str] | None = None,
    roles: Mapping[str, Any] | None = None,
    gap: str = " ",
) -> Pairs:
    """One pair of two texts that have equally many tokens.

    Args:
        model: whose tokenizer is used.
        clean: a text.
        corrupted: the text that is patched.
        answers: of the two, the clean one first; when None, the token that the model finds likeliest behind each,
            whose text is the label `output`.
        roles: named places, as in `read_pairs`.
        gap: what stands between a text and its answer.

    Raises:
        PbbError: an empty text, another number of tokens, a role that is not in its text, or answers that are the same.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> roles = {"name": "dolvik"}
        >>> pair = pbb.prompts.pair_from_texts(model, "dolvik(3) =", "dolvik(5) =", answers=("7", "9"), roles=roles)
        >>> len(pair)
        1
    """
    if not all(isinstance(text, str) and text.strip() for text in (clean, corrupted)):
        raise PbbError("A text is empty: give one on either side.")
    try:
        row = _pair(
            {"clean": clean, "corrupted": corrupted, "answers": list(answers or ("", "")), "roles": roles or {}}
        )
    except ValueError as error:
        raise PbbError(f"The texts are no pair of prompts ({str(error).rstrip('.')}).") from error
    pair = _pairs(model, [row], gap, True, answers)
    lengths = [side.tokens.shape[1] for side in (pair.clean, pair.corrupted)]
    if lengths[0] != lengths[1]:
        raise PbbError(
            f"The texts have {lengths[0]} and {lengths[1]} tokens: patching token by token needs equally many."
        )
    if answers is None:
        pair = _with_likeliest_answers(model, pair)
    first, second = pair.answer_ids(model)
    if first.tolist() == second.tolist():
        said = pair.clean.labels["output"].item()
        raise PbbError(f"Both texts have the answer {said!r}: name two answers to be told apart.")
    return pair


def _with_likeliest_answers(model: "TransformerBridge", pair: Pairs) -> Pairs:
    """A pair whose answers are the tokens that the model finds likeliest, and no texts that would be cut anew."""
    import torch

    sides, ids = [], []
    for side in (pair.clean, pair.corrupted):
        likeliest = likely_answers(model, side, 1)
        sides.append(replace(side, labels=side.labels.assign(output=likeliest["answer"].tolist())))
        ids.append(torch.tensor(likeliest["token"].tolist())[:, None])
    return Pairs(sides[0], sides[1], (ids[0], ids[1]))


class Side(NamedTuple):
    """One prompt of a pair."""

    text: str
    roles: dict[str, Span]
    labels: dict[str, Any]


def _pairs(
    model: "TransformerBridge",
    rows: "Sequence[list[Side]]",
    gap: str,
    special_tokens: bool,
    answers: Sequence[Any] | None,
) -> Pairs:
    import pandas as pd

    clean, corrupted = (
        Prompts.from_texts(
            model,
            [row[i].text for row in rows],
            {role: [row[i].roles[role] for row in rows] for role in rows[0][i].roles},
            pd.DataFrame([row[i].labels for row in rows]),
            gap=gap,
            special_tokens=special_tokens,
            answers=answers,
        )
        for i in (0, 1)
    )
    return Pairs(clean, corrupted)


def _pair(row: Mapping[str, Any]) -> list[Side]:
    """Text, roles and labels of the clean and of the corrupted prompt."""
    texts = [read_text(name, row[name]) for name in ("clean", "corrupted")]
    answers = row["answers"]
    if not isinstance(answers, list) or len(answers) != 2:
        raise ValueError("`answers` is not a list of the clean and the corrupted answer")
    if not all(isinstance(answer, (str, int, float)) and not isinstance(answer, bool) for answer in answers):
        raise ValueError("an answer is neither a text nor a number")
    places = {role: _of_each(place) for role, place in read_roles(row).items()}
    others = {
        name: value if isinstance(value, list) and len(value) == 2 else [value, value]
        for name, value in row.items()
        if name not in ("clean", "corrupted", "answers", "roles")
    }
    for i in (0, 1):
        check_labels({name: value[i] for name, value in others.items()} | {"output": answers[i]})
    if odd := [name for name in TEXTS if name in others and not all(isinstance(text, str) for text in others[name])]:
        raise ValueError(f"`{odd[0]}` is no text")
    return [
        Side(
            text,
            {role: role_span(role, place[i], text) for role, place in places.items()},
            {name: value[i] for name, value in others.items()} | {"output": answers[i]},
        )
        for i, text in enumerate(texts)
    ]


def _of_each(place: Any) -> list[Any]:
    """The place in the clean and in the corrupted prompt: the same one, unless there are two."""
    both = isinstance(place, list) and len(place) == 2 and not all(isinstance(end, int) for end in place)
    return place if both else [place, place]
