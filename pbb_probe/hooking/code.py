"""Code being read: prompts with a program's code in them, and for each of its tokens the syntax node and its line.

The prompts need not come from a corpus. All that is asked of them is a role `code` and a label `source`, the code as it
stands there; a label `call`, the arguments as Python text, such as `3, [1, 2]`, says what the lines did.
"""

import ast
import random
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.calls import prompts_of_calls
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.models.tokens import encoded
from pbb_probe.programs.corpus import FAMILIES, Corpus, Group
from pbb_probe.programs.documents import source_document
from pbb_probe.programs.program import Program, call_arguments, trace_programs
from pbb_probe.programs.syntax import function_of, line_starts, node_types, parsed, same_statements, statement_lines
from pbb_probe.programs.targets import LINE_TARGETS, line_rows, line_table
from pbb_probe.schema import Count, Seed, checks_arguments

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import TransformerBridge

CARRIED = ("program", "group", "input", "output")
"""Labels of the prompts that their tokens have as well."""


@checks_arguments
def code_prompts(
    corpus: Corpus,
    model: "TransformerBridge",
    group: Group | None = None,
    n: Count | None = None,
    seed: Seed = 0,
    unseen: bool = False,
    call_first: bool = False,
) -> Prompts:
    """Calls with the program's code before them, with the roles `code`, `name`, `input` and `answer`.

    They are rendered as `evaluate(in_context=True)` does, but that the code is always the program's source as it is and
    not another form of it: its lines are those of the traces.

    Args:
        corpus: whose programs are called.
        model: whose tokenizer is used.
        group: only this group.
        n: how many calls a group; all of them when None.
        seed: of the calls drawn and of the surface templates.
        unseen: only inputs whose answers were never shown.
        call_first: let the call stand before the code as well. What depends on the input can be read off the tokens of
            the code only then: a causal model that reads code before it has seen the input cannot know it.

    Returns:
        `Prompts` with the labels of `Corpus.calls`. `name` and `input` are those of the call behind the code.

    Raises:
        PbbError: what `Corpus.calls` refuses.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=4, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.prompts.code_prompts(corpus, model, n=6)
        >>> print(prompts.texts[0])
        how is the function fuxguk written ?
        def fuxguk(x):
            y = (6 - x) % 10
            return y * 8 % 10
        running fuxguk on 9 gives
    """
    calls = corpus.calls("direct", group, n, seed, unseen)
    rng = random.Random(f"code {seed}")
    code = [source_document(corpus.by_name[name].program, rng) for name in calls["program"]]
    if call_first:
        code = [
            replace(document, prompt=f"{call}\n{document.prompt}")
            for document, call in zip(code, calls["prompt"], strict=True)
        ]
    return prompts_of_calls(model, calls, code=code, answers=corpus.outputs)


def code_tokens(model: "TransformerBridge", prompts: Prompts, corpus: Corpus | None = None) -> "pd.DataFrame":
    """Every token of the code in prompts, with its syntax node and what its line did in the call.

    Args:
        model: whose tokenizer made the prompts.
        prompts: with the role `code` and the label `source`, the same code; and with the label `call`, the arguments of
            a call as Python text, if lines are asked about: the code is then run on them, confined as every program is.
        corpus: whose programs the code may call, where it calls any.

    Returns:
        A row a token: `prompt` and `position`; `token`, the characters of the source that it covers; `line`, the first
        being 1; `node`, the type of the innermost node of the syntax tree that contains it (`syntax.node_types`); what
        its statement did, the `executed`, `next_line`, `variable`, `value`, `type` and `times` of `line_targets`,
        missing for `def`, `else` and what is inside a helper function; and the labels `program`, `group`, `input` and
        `output` where the prompts have them. A token of several lines or nodes is of those of its first character that
        is no space. Statements that share a line are told apart; `next_line` is where the next one begins.

    Raises:
        PbbError: no role `code`, no label `source`, code that is not where the role is or is no Python, tokens that are
            not those of the text, and where the code is to be run what `trace_programs` refuses.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=4, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.prompts.code_prompts(corpus, model, n=1)  # def fuxguk(x): y = (6 - x) % 10 ...
        >>> tokens = pbb.prompts.code_tokens(model, prompts).query("line == 2")
        >>> tokens[["token", "node"]].values.tolist()[:6]
        [['y', 'Name'], ['=', 'Assign'], ['(', 'BinOp'], ['6', 'Constant'], ['-', 'BinOp'], ['x', 'Name']]
    """
    texts = "source" in prompts.labels and all(isinstance(source, str) for source in prompts.labels["source"])
    if "code" not in prompts.spans or not texts:
        raise PbbError(
            "These prompts have no code to look at: give them the role 'code' and the label 'source', the same code."
        )
    rows: list[dict[str, Any]] = []
    runs = _runs(prompts.labels, corpus) if "call" in prompts.labels else [{}] * len(prompts)
    sources, known = list(prompts.labels["source"]), [name for name in CARRIED if name in prompts.labels]
    carried = prompts.labels[known].to_dict(orient="records")
    for i, places in enumerate(_places(model, prompts)):
        source, starts = sources[i], line_starts(sources[i])
        nodes, statements = node_types(source), statement_lines(source)
        for position, (start, end) in places.items():
            text = source[start:end]
            first = start + (len(text) - len(text.lstrip()) if text.strip() else 0)
            rows.append(
                {"prompt": i, "position": position, "token": text, "line": bisect_right(starts, first)}
                | {"node": nodes[first], **dict.fromkeys(LINE_TARGETS), **runs[i].get(statements[first], {})}
                | carried[i]
            )
    return line_table(rows)


def _places(model: "TransformerBridge", prompts: Prompts) -> list[dict[int, tuple[int, int]]]:
    """For each prompt, the positions of its code with the characters of the source that stand there."""
    batch = encoded(model.tokenizer, prompts.texts, prompts.special_tokens, offsets=True)
    found = []
    for i, (text, source) in enumerate(zip(prompts.texts, prompts.labels["source"], strict=True)):
        ids, offsets = batch["input_ids"][i], batch["offset_mapping"][i]
        padding = int(prompts.attention_mask[i].argmax())
        first, last = (int(position) - padding for position in prompts.spans["code"][i])
        if ids[first : last + 1] != prompts.tokens[i, padding + first : padding + last + 1].tolist():
            raise PbbError(f"The tokens of prompt {i} are not those of its text: make the prompts with from_texts.")
        begin = text.find(source, offsets[first - 1][1] if first else 0)
        if not 0 <= begin < offsets[last][1]:
            raise PbbError(f"The code of prompt {i} does not stand at its role 'code': {source[:200]!r}.")
        places = {}
        for k in range(first, last + 1):
            start, end = offsets[k]
            if start == end and k:  # some tokenizers leave spaces out of what a token covers
                start = offsets[k - 1][1]
            start, end = max(start - begin, 0), min(end - begin, len(source))
            if start < end:
                places[padding + k] = (start, end)
        found.append(places)
    return found


def _runs(labels: "pd.DataFrame", corpus: Corpus | None) -> list[dict[int, dict[str, Any]]]:
    """For each prompt, its call run: the rows of `line_targets`, by lines of the code as it is traced.

    That is one statement a line; the lines that ran next are those of the source itself.
    """
    library = [entry.program for entry in corpus.entries] if corpus else []
    calls = {program.name: program.calls for program in library}
    inputs: dict[str, dict[str, tuple[Any, ...]]] = {}
    for source, call in zip(labels["source"], labels["call"], strict=True):
        inputs.setdefault(source, {})[call] = call_arguments("code", call)
    programs = []
    for source in inputs:
        name = function_of(source).name
        programs.append(Program(name, "code", ast.unparse(parsed(source)), calls=calls.get(name, ())))
    traces = trace_programs(programs, [list(of_source.values()) for of_source in inputs.values()], library=library)
    of_families = set(labels["source"][labels["family"].isin(FAMILIES)]) if "family" in labels else set()
    ran = {}
    for (source, of_source), program, found in zip(inputs.items(), programs, traces, strict=True):
        own = {one_a_line.lineno: statement.lineno for statement, one_a_line in same_statements(source)}
        for call, trace in zip(of_source, found, strict=True):
            rows = line_rows(program.source, trace.without_dicts() if source in of_families else trace)
            ran[source, call] = {
                line: row | {"next_line": own.get(row["next_line"], row["next_line"])} for line, row in rows.items()
            }
    return [ran[key] for key in zip(labels["source"], labels["call"], strict=True)]
