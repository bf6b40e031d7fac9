"""Programs of every family with their traces."""

import random

import pytest

from pbb_probe.programs.algorithms import algorithms_programs
from pbb_probe.programs.arithmetic import SHAPES, arithmetic_programs
from pbb_probe.programs.ciphers import ciphers_programs
from pbb_probe.programs.program import Program, Trace, trace_programs


def family(name: str, n: int, seed: int = 0) -> list[tuple[Program, list[Trace]]]:
    names, rng = [f"prog{i}" for i in range(n)], random.Random(seed)
    if name == "arithmetic":
        made = [(program, list(range(10))) for program in arithmetic_programs(names, rng, SHAPES)]
    else:
        made = {"algorithms": algorithms_programs, "ciphers": ciphers_programs}[name](names, rng)
    programs, inputs = zip(*made, strict=True)
    return list(zip(programs, trace_programs(programs, inputs), strict=True))


@pytest.fixture(scope="session")
def families():
    return {name: family(name, n) for name, n in (("arithmetic", 105), ("algorithms", 84), ("ciphers", 60))}
