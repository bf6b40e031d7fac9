"""The command `calibrate`: the instrument on models whose truth is known, at settings of one's own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pbb_probe.calibration.trials import (
    NULL_DATA,
    SEEDS_APART,
    Design,
    Instrument,
    draw_designs,
    null_comparisons,
    try_design,
)
from pbb_probe.schema import Place, check_fields, whole
from pbb_probe.store.writable import WritableRun

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
"""Of what a trial means: raised when the same settings come to give other results."""


@dataclass(frozen=True)
class CalibrateConfig:
    """How much is tried, and at which settings."""

    designs: Annotated[int, whole(1, SEEDS_APART)] = 64
    """Planted models, drawn at random."""
    null_models: Annotated[int, whole(1, 1000)] = 5
    """Models of each kind of null comparison."""
    splits: Annotated[int, whole(1, 10**5)] = 10
    """Random divisions of each of these models' programs into two groups."""
    instrument: Instrument = field(default_factory=Instrument)
    """The settings that are calibrated."""
    seed: Annotated[int, whole(0, 2**32 // SEEDS_APART - 1)] = 0
    """Of designs, models and divisions, each of which has a seed of its own made from it."""
    out: Place = "calibration"
    """Directory for designs.csv (planted blocks and what was found), nulls.csv and calibration.csv (the summary)."""

    def __post_init__(self) -> None:
        check_fields(self)


def calibrate(config: CalibrateConfig) -> None:
    """Run the instrument on planted models and null comparisons: does it find what is there, and nothing else?"""
    import pandas as pd
    from tqdm import tqdm

    from pbb_probe.calibration.summary import calibration_table

    run = WritableRun(config.out)
    settings = {"instrument": asdict(config.instrument), "version": VERSION}

    def kept(name: str, make: Callable[[], "pd.DataFrame"], **inputs: Any) -> "pd.DataFrame":
        """A table that is made once for its inputs."""
        run.step(name, inputs | settings, lambda out: make().to_csv(out / "table.csv", index=False))
        return run.table(f"{name}/table")

    with run.writing():
        tables, nulls = [], []
        designs = draw_designs(config.designs, config.seed)
        kinds = [(data, config.seed * 1000 + k) for data in NULL_DATA for k in range(config.null_models)]
        with tqdm(total=len(designs) + len(kinds), desc="calibrating", unit="model") as progress:
            for i, design in enumerate(designs):
                made = kept(f"design_{i}", partial(try_design, design, config.instrument), design=asdict(design))
                tables.append(made.assign(design=i, **_in_words(design)))
                progress.update()
            for data, seed in kinds:
                compare = partial(null_comparisons, data, config.splits, config.instrument, seed)
                nulls.append(kept(f"null_{data}_{seed}", compare, data=data, seed=seed, splits=config.splits))
                progress.update()
        planted, null = pd.concat(tables, ignore_index=True), pd.concat(nulls, ignore_index=True)
        table = calibration_table(planted, null)
        for name, written in (("designs", planted), ("nulls", null), ("calibration", table)):
            written.to_csv(run.path / f"{name}.csv", index=False, float_format="%.4g")
        print(table.to_string(index=False, float_format="%.3f"))


def _in_words(design: Design) -> dict[str, Any]:
    """The columns of a design. The block of its output is left out: the rows say it, for each group."""
    columns = {name: value for name, value in asdict(design).items() if name != "output"}
    return {name: ", ".join(map(str, value)) if isinstance(value, tuple) else value for name, value in columns.items()}
