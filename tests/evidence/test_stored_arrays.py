"""A stored array alone reproduces its table: each file of a run is read from a folder that holds nothing else."""

import shutil

import pandas as pd
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.evidence.behaviour import behaviour_table

DRAWN = {"draws": 200, "seed": 0}


@pytest.fixture
def alone(planted_run, tmp_path):
    """`alone(name)`: an array of the run, read where nothing of the run lies beside it."""

    def read(name: str) -> xr.Dataset:
        copied = shutil.copy(planted_run / f"{name}.nc", tmp_path / "array.nc")
        with xr.open_dataset(copied, engine="h5netcdf") as array:
            return array.load()

    return read


@pytest.fixture
def table(planted_run):
    """`table(name, **values)`: the rows of a table of the run that have these values, without those columns."""

    def read(name: str, **values) -> pd.DataFrame:
        rows = pd.read_csv(planted_run / f"{name}.csv")
        for column, value in values.items():
            rows = rows[rows[column] == value].drop(columns=column)
        return rows.reset_index(drop=True)

    return read


def same(made: pd.DataFrame, stored: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(made[list(stored)], stored, check_dtype=False, rtol=1e-12)


@pytest.mark.parametrize("name", ["finetuned", "base"])
def test_behaviour(alone, table, name):
    same(behaviour_table(alone(f"behaviour/{name}"), **DRAWN), table("behaviour/behaviour", model=name))


def test_probes_and_their_controls(alone, table):
    made = pbb.tables.probes(alone("probing/probes"), **DRAWN)
    assert set(made["control"]) == {"none", "shuffled", "chance", "embedding"}
    same(made, table("comparison/probing_controls", subset="all"))


@pytest.mark.parametrize("variable", ["state_1", "output"])
def test_outcomes_of_brewing(alone, table, variable):
    brewed = alone("probing/brewing").sel(variable=variable)
    made = pbb.tables.outcomes(brewed, ("group", "steps"), **DRAWN)
    same(made, table("comparison/outcomes", variable=variable))


@pytest.mark.parametrize("group", ["with_io", "without_io"])
def test_transfer_maps(alone, table, group):
    made = pbb.tables.transfer(alone(f"transfer/{group}"), ("group", "steps"), **DRAWN)
    stored = table("comparison/transfer", subset="all")
    same(made, stored[stored["group"] == group].reset_index(drop=True))


@pytest.mark.parametrize("swap", ["program", "input"])
def test_recovery_of_both_groups(alone, table, swap):
    groups = [pbb.metrics.recovery(alone(f"patching/{swap}_{group}")) for group in ("with_io", "without_io")]
    both = pbb.tables.join([of_group.to_array("site") for of_group in groups], "pair")
    both = both.transpose("site", "role", "layer", "pair")
    made = pbb.compare_groups(both, weights="weight", margin=0.1, **DRAWN)
    same(made, table("comparison/patching", swap=swap, subset="all"))


def test_the_lens(alone, table):
    right = alone("probing/lens")["correct"].sel(control="none")
    made = pbb.compare_groups(right.transpose("decode", "variable", "role", "layer", "prompt"), **DRAWN)
    same(made, table("comparison/lens", subset="all").drop(columns="shuffled"))
