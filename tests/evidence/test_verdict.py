"""The words follow from the tables: what was found with its interval and n, and no more than that."""

import pandas as pd
import pytest

from pbb_probe.evidence.verdict import KINDS, describe, programs_of

GROUPS = ("with_io", "without_io")
NAN = float("nan")


def behaviour(direct: float = 0.6, lower: float = 0.5) -> pd.DataFrame:
    cells = [
        {
            "model": "finetuned", "mode": mode, "group": group, "steps": 2, "seen": False, "mean": share,
            "lower": low, "upper": share + 0.1, "n": 50, "programs": 10, "chance": 0.12,
        }
        for group in GROUPS
        for mode, share, low in (("direct", direct, lower), ("trace", 0.9, 0.85))
    ]  # fmt: skip
    return pd.DataFrame(cells)


def onsets(programs: int = 20) -> pd.DataFrame:
    """The program leaves in block 3 and is read from block 1 on; no state; the output is read, no part writes it."""
    rows = [
        ("program", 3.0, 0.97, 1.0, 0.8, NAN, NAN, "disagree"),
        ("input", 0.0, 0.9, 0.0, 1.0, NAN, NAN, "agree"),
        ("state_1", NAN, 0.07, NAN, 0.12, NAN, 0.03, "neither"),
        ("output", NAN, 0.41, 4.0, 0.9, 4.0, 0.95, "only read"),
    ]
    return pd.DataFrame(
        [
            {
                "group": group, "steps": 2, "variable": variable, "subset": subset, "agreement": agreement,
                "used_layer": used, "used_lower": used - 1, "used_upper": used, "used_peak": share, "used_n": 40,
                "used_clusters": programs, "read_clusters": 30, "lens_clusters": 30,
                "read_layer": read, "read_lower": read, "read_upper": read, "read_peak": gain, "read_n": 70,
                "lens_layer": lens, "lens_lower": lens, "lens_upper": lens, "lens_peak": said,
                "lens_n": 70 if said == said else NAN,
            }
            for variable, used, share, read, gain, lens, said, agreement in rows
            for group in GROUPS
            for subset in ("all", "correct")
        ]
    )  # fmt: skip


def evaluation(kind: str = "undetermined") -> pd.DataFrame:
    rows = [
        (group, 2, "not found" if subset == "all" else kind, subset)
        for group in GROUPS
        for subset in ("all", "correct")
    ]
    return pd.DataFrame(rows, columns=["group", "steps", "evaluation", "subset"])


def onset_differences(without_io: int = 20) -> pd.DataFrame:
    rows = [
        ("use", "program", 1.0, 0.04),
        ("probes", "program", 2.0, 0.5),
        ("lens", "output", 0.0, 1.0),
        ("use", "state_1", NAN, NAN),
    ]
    return pd.DataFrame(
        {"steps": 2, "measure": m, "variable": v, "difference": d, "lower": d - 1, "upper": d, "p": p,
         "p_equivalent": 0.01 if d == d else NAN, "clusters_with_io": 20, "clusters_without_io": without_io,
         "subset": "correct"}
        for m, v, d, p in rows
    )  # fmt: skip


def compared(p: float = 0.01, subset: str = "correct", programs: int = 20, **names) -> pd.DataFrame:
    """Two places, of which one may differ, and a third that is of other rows."""
    row = {
        "site": "resid_pre", "layer": 2, "role": "name", "mean_with_io": 0.9, "mean_without_io": 0.4,
        "difference": 0.5, "lower": 0.3, "upper": 0.7, "equivalent": False,
        "clusters_with_io": 25, "clusters_without_io": programs, **names,
    }  # fmt: skip
    same = row | {"layer": 1, "difference": 0.0, "equivalent": True}
    return pd.DataFrame([row | {"p_adjusted": p}, same | {"p_adjusted": 1.0}, same | {"p_adjusted": 0.001}]).assign(
        subset=[subset, subset, "all"]
    )


def words(**given) -> list[str]:
    tables = {
        "behaviour": behaviour(),
        "onsets": onsets(),
        "evaluation": evaluation(),
        "onset_differences": onset_differences(),
        "differences": {"recovery": compared()},
    }
    return describe(**{**tables, **given})


def test_a_paragraph_on_behaviour_one_on_each_group_and_one_on_the_difference():
    said = words()
    assert len(said) == 4
    assert said[0].startswith(
        "Behaviour on inputs whose answers were never shown. with_io, direct, 2 steps: 60% [50%, 70%]"
    )
    assert said[1].startswith("with_io, only calls answered correctly. 2 steps (40 pairs, 70 prompts): ")
    assert said[2].startswith("without_io, only calls answered correctly. 2 steps (40 pairs, 70 prompts): ")
    assert said[3].startswith("Difference between with_io and without_io")


def test_what_is_used_and_read_is_named_with_interval_and_n():
    text = words()[1]
    assert "the program leaves its name in block 3 [2, 3], " in text
    assert "at the answer position probes read it after block 1 [1, 1] (use and probes disagree)" in text
    assert "the input leaves its place in block 0 [-1, 0], " in text
    assert "no one component carries output (at most 41% above random vectors)" in text
    assert (
        "at the answer position probes read it after block 4 [4, 4], the logit lens reads it after block 4 [4, 4]"
        in text
    )
    assert text.count("disagree") == 1


def test_what_is_not_found_is_said_with_how_much_there_was():
    text = words()[1]
    assert "no one component carries state_1 (at most 7% above random vectors)" in text
    assert "at the answer position probes do not (gain at most 12%), the logit lens does not (gain at most 3%)" in text
    nowhere = onsets()
    nowhere.loc[nowhere["variable"] == "program", "used_layer"] = NAN
    assert "no one place carries the program (at most 97% above random vectors)" in words(onsets=nowhere)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_evaluation_is_that_of_calls_answered_correctly(kind: str):
    for text in words(evaluation=evaluation(kind))[1:3]:
        assert f"So: {KINDS[kind]}." in text
    assert KINDS[kind].startswith(("evaluated step by step", "a single step", "undetermined", "not found"))


@pytest.mark.parametrize("kind", ["compiled", "looked up"])
def test_what_earlier_versions_called_compiled_or_looked_up_reads_undetermined(kind: str):
    text = " ".join(words(evaluation=evaluation(kind)))
    assert (
        text.count("So: undetermined, as absence of a state in single components at the answer position does not") == 2
    )
    assert kind not in text


def test_nothing_is_called_compiled_in_one_piece_or_the_same():
    for kind in KINDS:
        text = " ".join(words(evaluation=evaluation(kind)))
        for word in ("compiled", "one piece", "the same within", "equivalent"):
            assert word not in text


@pytest.mark.parametrize("programs", [19, 20])
def test_of_fewer_than_twenty_programs_it_is_only_said_that_these_are_too_few(programs: int):
    few = onsets(programs)
    few.loc[few["group"] == "with_io", "used_clusters"] = 20
    said = words(onsets=few, evaluation=evaluation("step by step"))
    assert "leaves its name in block 3" in said[1]
    if programs < 20:
        assert said[2] == "without_io, only calls answered correctly. 2 steps: too few programs (n = 19)."
    else:
        assert "leaves its name in block 3" in said[2]
        assert said[2].endswith(f"So: {KINDS['step by step']}.")


def test_programs_are_those_of_pairs_or_of_prompts_whichever_are_fewer():
    some = onsets(25).query("group == 'with_io' and subset == 'correct'")
    assert programs_of(some) == 25
    assert programs_of(some.assign(read_clusters=19)) == 19
    assert programs_of(some.assign(used_clusters=NAN, used_n=NAN)) == 30
    assert programs_of(some.drop(columns=[name for name in some if name.endswith("clusters")])) == 40
    assert programs_of(some.iloc[:0]) == 0


def test_without_behaviour_nothing_is_found():
    said = words(behaviour=behaviour(0.13, 0.08))
    assert len(said) == 2
    assert "not found" in said[1]
    assert "block" not in " ".join(said)


def test_a_group_without_behaviour_is_not_found_and_not_compared():
    weak = behaviour()
    weak.loc[(weak["group"] == "without_io") & (weak["mode"] == "direct"), "lower"] = 0.1
    said = words(behaviour=weak)
    assert "leaves its name" in said[1]
    assert said[2].endswith("2 steps: not found, as direct answers are not above chance.")
    assert said[3] == "Difference between with_io and without_io: not compared, as without_io is not evaluated."


def test_a_group_without_pairs_says_so():
    only = onsets()
    said = words(onsets=only[only["group"] == "with_io"])
    assert said[2].endswith("2 steps: not found, as no pair of runs is answered right on both sides.")
    assert "not found" in words(onsets=only.iloc[:0], onset_differences=pd.DataFrame())[1]


def test_onset_differences_have_their_interval_and_p():
    text = words()[3]
    assert "program (2 steps, use) leaves its place +1 blocks later in with_io [0, 1] (p 0.04);" in text
    assert "output (2 steps, lens) comes in the same block [-1, 0] (p 1.00)." in text
    assert "probes) leaves" not in text  # the program stands in the tokens
    assert "state_1" not in text


def test_onsets_and_places_of_too_few_programs_are_not_compared():
    text = words(onset_differences=onset_differences(19))[3]
    assert "Onsets: program (2 steps, use): too few programs (n = 20 and 19); output (2 steps, lens): too few" in text
    assert "later in" not in text
    few = compared(programs=19)
    assert (
        "In recovery they were not compared: too few programs (n = 25 and 19)."
        in words(differences={"recovery": few})[3]
    )
    both = pd.concat([compared(layer=3), few])
    assert (
        "at 1 of 2 places (adjusted p < 0.05); 2 more have fewer than 20 programs in a group; most at site resid_pre"
        in words(differences={"recovery": both})[3]
    )


@pytest.mark.parametrize(
    ("p", "count", "most"),
    [
        (
            0.01,
            1,
            "; most at site resid_pre, layer 2, role name: with_io 0.90, without_io 0.40, difference 0.50 [0.30, 0.70]",
        ),
        (0.2, 0, ""),
    ],
)
def test_a_difference_of_places_needs_an_adjusted_p(p: float, count: int, most: str):
    said = f"They differ in recovery at {count} of 2 places (adjusted p < 0.05){most}."
    assert said in words(differences={"recovery": compared(p)})[3]


def test_pairs_whose_swapped_calls_are_right_too_come_first_where_there_are_any():
    best = onsets().query("subset == 'correct' and group == 'with_io'").assign(subset="matched", used_n=7)
    said = words(onsets=pd.concat([onsets(), best], ignore_index=True))
    assert "2 steps (7 pairs whose four calls are answered right, 70 prompts): the program leaves" in said[1]
    assert "2 steps (40 pairs, 70 prompts): the program leaves" in said[2]
    kinds = pd.concat([evaluation(), evaluation("step by step").query("subset == 'correct'").assign(subset="matched")])
    assert KINDS["step by step"] in words(evaluation=kinds.reset_index(drop=True))[1]


def test_of_what_places_carry_the_matched_pairs_count():
    carried = pd.concat([compared(0.001), compared(0.3, "matched", hypothesis="program", steps=2)])
    text = words(differences={"what places carry": carried})[3]
    assert "what places carry, where both swapped calls are answered right too, at 0 of 2 places" in text
    assert "could not be compared" in words(differences={"recovery": compared(subset="all")})[3]


def test_without_a_transfer_map_it_is_said_what_was_read():
    """Probes and lens were there: nothing is said of use, and nothing of how programs are evaluated."""
    read = onsets()
    for part in ("layer", "lower", "upper", "peak", "n"):
        read[f"used_{part}"] = NAN
    said = words(onsets=read, evaluation=evaluation().iloc[:0])
    assert "the program, at the answer position probes read it after block 1 [1, 1]" in said[1]
    assert said[1].endswith("By use not found: there is no transfer map of them.")
    assert "nan" not in " ".join(said)
    unread = onsets()
    for part in ("layer", "lower", "upper", "peak", "n"):
        unread[f"read_{part}"] = NAN
    assert "2 steps (40 pairs): the program leaves its name in block 3 [2, 3]; the input" in words(
        onsets=unread.assign(agreement="only used")
    )[1].replace(" (use and probes disagree)", "")


def gate(**evaluated: bool) -> pd.DataFrame:
    rows = [
        {"group": group, "steps": 2, "evaluated": there, "sentence": f"{'' if there else 'not '}evaluated (of {group})"}
        for group, there in evaluated.items()
    ]
    return pd.DataFrame(rows)


def decisive(table: pd.DataFrame, *groups: str) -> pd.DataFrame:
    """A table with rows of decisive calls, too, which these groups alone have."""
    rows = table[table["subset"] == "correct"]
    return pd.concat([table, rows[rows["group"].isin(groups)].assign(subset="decisive")], ignore_index=True)


def test_the_gate_is_said_first_and_what_is_not_evaluated_is_not_described():
    said = words(
        gate=gate(with_io=True, without_io=False),
        onsets=decisive(onsets(), "with_io"),
        evaluation=decisive(evaluation(), "with_io"),
    )
    assert said[0].startswith("Whether calls are evaluated directly")
    assert "with_io, 2 steps: evaluated (of with_io); without_io, 2 steps: not evaluated (of without_io)." in said[0]
    assert said[1].startswith("There are no io_only programs")
    assert said[3].startswith("with_io, only decisive calls answered correctly. 2 steps (40 pairs, 70 prompts): ")
    assert said[4] == (
        "without_io, only decisive calls answered correctly, of new functions. 2 steps: not evaluated (of without_io)."
    )
    assert said[5] == "Difference between with_io and without_io: not compared, as without_io is not evaluated."
    assert "block" not in said[4] + said[5]


def test_where_nothing_is_evaluated_nothing_is_located_however_high_accuracy_is():
    said = words(gate=gate(with_io=False, without_io=False))
    assert len(said) == 3
    assert "block" not in " ".join(said)


def test_what_examples_alone_explain_is_not_evaluation_of_code():
    both = pd.concat([onsets(), onsets().query("group == 'with_io'").assign(group="io_only")], ignore_index=True)
    both.loc[(both["group"] == "io_only") & (both["variable"] == "program"), ["used_layer", "used_lower"]] = 5.0
    both.loc[(both["group"] == "io_only") & (both["variable"] == "program"), "used_upper"] = 6.0
    extra = evaluation().query("group == 'with_io'").assign(group="io_only")
    kinds = pd.concat([evaluation(), extra], ignore_index=True)
    there = {"with_io": True, "without_io": True, "io_only": True}
    said = words(gate=gate(**there), onsets=both, evaluation=kinds)
    shared = "program (2 steps: read); input (2 steps: used, read); output (2 steps: read, lens)"
    assert said[1].startswith(f"The maps of with_io and io_only share the onsets of {shared}. ")
    assert said[1].endswith("what both share is not evaluation of code.")
    assert [text.split(",")[0] for text in said[3:6]] == ["with_io", "without_io", "io_only"]
    assert [text.split(",")[0] for text in said[6:]] == [
        "Difference between with_io and without_io",
        "Difference between with_io and io_only",
        "Difference between without_io and io_only",
    ]
    only = words(gate=gate(**there | {"io_only": False}), onsets=both, evaluation=kinds)
    assert "share no onset" in only[1]


def test_the_behaviour_said_first_is_that_of_decisive_calls_of_new_functions():
    table = pd.concat(
        [
            behaviour().assign(calls=calls, programs=programs, mean=mean)
            for calls, programs, mean in (
                ("all", "all", 0.9), ("decisive", "all", 0.6), ("decisive", "new functions", 0.3),
            )
        ]
    )  # fmt: skip
    said = words(behaviour=table)[0]
    first, every = said.split("All calls: ")
    assert "with_io, direct, 2 steps: 60%" in first
    assert "without_io, direct, 2 steps: 30%" in first
    assert every.count("90%") == 4


def test_programs_are_counted_and_not_their_functions():
    few = onsets(programs=12).assign(used_programs=30, read_programs=40, lens_programs=40)
    assert programs_of(few[few["variable"] == "program"]) == 30
    assert "too few" not in " ".join(words(onsets=few)[1:3])
