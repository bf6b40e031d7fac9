"""How many programs of a benchmark run, and whether they give what the benchmark says.

    python experiments/real_programs.py FILE.jsonl

Each line of the file is an object with `code` (a function `f`, or the last function in it), `input` (its arguments as
Python text) and `output` (a Python value as text). Prints how many run right and wrong, every reason for which others
are refused with how often and an example, and the seconds that all took. Exits with 1 if an answer is wrong.
"""

import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Trace, Value, attempt_calls, call_arguments
from pbb_probe.programs.syntax import function_of
from pbb_probe.programs.values import read_value, value_text


def main(path: str) -> int:
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    began = time.monotonic()
    attempts = run(rows)
    seconds = time.monotonic() - began
    outcomes: dict[str, list[str]] = defaultdict(list)
    for k, (row, attempt) in enumerate(zip(rows, attempts, strict=True)):
        outcomes[outcome(row, attempt)].append(str(row.get("id", k)))
    print(f"{len(rows)} programs in {seconds:.1f} s\n")
    for what, ids in sorted(outcomes.items(), key=lambda item: (item[0] not in ("right", "wrong"), -len(item[1]))):
        print(f"{len(ids):5}  {what}  ({ids[0]}{', ...' if len(ids) > 1 else ''})")
    return int("wrong" in outcomes)


def run(rows: list[dict[str, str]]) -> list[Trace | PbbError]:
    """What each row gives, all run at once."""
    attempts: list[Trace | PbbError] = []
    programs: dict[int, Program] = {}
    inputs: dict[int, list[Value | tuple[Value, ...]]] = {}
    for k, row in enumerate(rows):
        attempts.append(PbbError("nothing"))
        try:
            name = function_of(row["code"]).name
            inputs[k] = [call_arguments(name, row["input"])]
            programs[k] = Program(name, "own", row["code"])
        except PbbError as error:
            attempts[k] = error
    for k, (attempt,) in zip(programs, attempt_calls(list(programs.values()), list(inputs.values())), strict=True):
        attempts[k] = attempt
    return attempts


def outcome(row: dict[str, str], attempt: Trace | PbbError) -> str:
    """`right`, `wrong`, or the reason without the names and places of this program."""
    if isinstance(attempt, PbbError):
        reason = str(attempt).split(": ", 2)[-1]
        return re.sub(r"line \d+: ", "", re.sub(r"call .* cannot be read", "call cannot be read", reason))
    try:
        given = value_text(read_value(row["output"]))
    except ValueError as error:
        return f"the output in the file cannot be compared: {error}"
    return "right" if given == value_text(attempt.output) else "wrong"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
