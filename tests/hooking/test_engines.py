"""The choice of an engine: the first that passes is taken, and each one passed over is named once, with its reason."""

import re
import warnings

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.blocks import WholeBlocks
from pbb_probe.hooking.engines.choice import ENGINES, first_exact, from_caller
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.tail import Tail


def failing(*kinds, error=None):
    def check(engine):
        if isinstance(engine, kinds):
            raise error or TypeError("no heads")
        return type(engine)

    return check


@pytest.mark.parametrize(("kinds", "chosen"), [((), Tail), ((Tail,), WholeBlocks), ((Tail, WholeBlocks), FullForward)])
def test_the_first_that_passes_is_taken(kinds, chosen, bridge):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        first = first_exact(bridge("llama"), failing(*kinds))
        again = first_exact(bridge("llama"), failing(*kinds), first.passed_over)
    assert first.result is again.result is type(first.engine) is chosen
    assert [kind.method for kind in kinds] == list(first.passed_over) == list(again.passed_over)
    assert len(said) == len(kinds)  # the second time nothing is tried, or said, again
    assert all("TypeError: no heads" in str(warning.message) for warning in said)
    reasons = "; ".join(f"{kind.method}: TypeError: no heads" for kind in kinds)
    assert first.attributes == {"method": chosen.method} | ({"passed_over": reasons} if kinds else {})


@pytest.mark.parametrize("error", [PbbError("bad input"), MemoryError(), RuntimeError("CUDA out of memory")])
def test_what_another_engine_would_not_mend_goes_through(error, bridge):
    with pytest.raises(type(error)) as raised:
        first_exact(bridge("llama"), failing(Tail, error=error))
    assert raised.value is error


def test_the_error_of_a_callers_function_comes_out_as_it_was(bridge):
    mine = ZeroDivisionError("mine")

    def metric(_):
        raise mine

    with pytest.raises(ZeroDivisionError) as raised:
        first_exact(bridge("llama"), from_caller(metric))
    assert raised.value is mine


def test_the_last_reason_is_said_where_none_passes(bridge):
    reason = re.escape("even by full forward passes (TypeError: no heads)")
    with pytest.raises(PbbError, match=reason), pytest.warns(UserWarning, match="as exact but slower"):
        first_exact(bridge("llama"), failing(*ENGINES))
