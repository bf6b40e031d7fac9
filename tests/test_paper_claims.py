"""The claims' effects are differences by program worked out by hand, and their verdicts follow from the intervals."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

from paper_claims import CONDITIONS, Effect, effects, estimate, minus

from pbb_probe.finetuning.curricula import CURRICULA


def values(*by_seed: list[float]) -> dict[int, dict[str, float]]:
    return {seed: {f"p{i}": value for i, value in enumerate(some)} for seed, some in enumerate(by_seed)}


def test_models_and_programs_are_resampled():
    certain = estimate(Effect("", "", "", values([0.1] * 5, [0.2] * 5, [0.6] * 5)))
    assert certain["effect"] == pytest.approx(0.3)
    assert certain["lower"] == pytest.approx(0.1)  # the same model three times: 1 in 27, more than 2.5 %
    assert certain["upper"] == pytest.approx(0.6)
    programs = estimate(Effect("", "", "", values([0.0, 1.0] * 50)))  # one model: a binomial of 100 halves
    assert programs["lower"] == pytest.approx(0.5 - 1.96 * 0.05, abs=0.011)
    assert programs["upper"] == pytest.approx(0.5 + 1.96 * 0.05, abs=0.011)
    both = estimate(Effect("", "", "", values([0.0, 1.0] * 8, [0.2, 1.2] * 8, [0.4, 1.4] * 8)))
    assert both["upper"] - both["lower"] > 0.4  # wider than the models alone (0.4) make it


def test_what_is_subtracted_is_resampled_too():
    one, other = values([0.5] * 9), values([0.0, 1.0] * 50)
    apart = estimate(Effect("", "", "", one, other))
    assert apart["effect"] == pytest.approx(0.0)
    assert apart["upper"] == pytest.approx(1.96 * 0.05, abs=0.011)
    assert minus(values([1.0, 0.5]), {0: {"p1": 0.25}}) == {0: {"p1": 0.25}}


@pytest.mark.parametrize(
    ("programs", "verdict"),
    [
        ([0.2, 0.3] * 20, "holds"),
        ([-0.2, -0.3] * 20, "does not hold"),
        ([-0.01, 0.02] * 20, "holds"),
        ([-0.02, 0.02] * 20, "does not hold"),  # certainly below five points
        ([-0.9, 0.9] * 20, "not resolved"),
    ],
)
def test_verdicts(programs, verdict):
    assert estimate(Effect("", "", "", values(programs)))["verdict"] == verdict


def table(direct: float, trace: float, skewed: float = 0.0) -> dict[int, pd.DataFrame]:
    """Two programs a group, each on the first and the last input; `skewed` is taken from the last one."""
    rows = [
        {
            "program": f"{group}{i}",
            "group": group,
            "family": family,
            "mode": mode,
            "place": place,
            "output": i,
            "correct": right - skewed * (place == 9),
        }
        for mode, right in (("direct", direct), ("trace", trace))
        for group in ("with_io", "without_io")
        for family in ("arithmetic", "composed")
        for i in range(2)
        for place in (0, 9)
    ]
    return {0: pd.DataFrame(rows)}


def test_every_claim_compares_what_it_says():
    calls = {name: table(0.5, 0.9) for name in CONDITIONS}
    calls["descriptions, 4 layers of 96"] = table(0.4, 0.6)
    calls["stage 1 alone"], calls["stage 2 alone"] = table(0.1, 0.2), table(0.0, 0.0)
    calls["retroactive SFT"], calls["retroactive RL"] = table(0.3, 0.7), table(0.35, 0.65)
    calls["proactive, 2 layers of 64"] = table(0.2, 0.1)
    calls["io only, skewed"], calls["proactive, skewed io"] = table(0.5, 0.9, 0.4), table(0.5, 0.9, 0.1)
    found = {(e["claim"], e["what"], e["mode"]): e["effect"] for e in map(estimate, effects(calls))}
    by_claim = {}
    for (claim, _, _), effect in found.items():
        by_claim.setdefault(claim, []).append(round(float(effect), 6))
    assert by_claim == {
        "code beats description": [0.1, 0.3],
        "worked steps beat direct answers": [0.4],
        "both stages are needed": [0.4, 0.7, 0.5, 0.9],
        "code does not inherit the skew of examples": [0.4, 0.3],
        "proactive beats retroactive": [0.2, 0.2],
        "reinforcement beats SFT": [0.05, -0.05],
        "programs that call learned ones can be evaluated": [0.0, 0.4],
        "larger models evaluate better": [0.3, 0.8, 0.0, 0.0, 0.3, 0.8],
    }


def test_every_condition_names_a_curriculum():
    assert {condition.curriculum for condition in CONDITIONS.values()} <= set(CURRICULA)
