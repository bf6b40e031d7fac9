"""The command `verify`: are all files of a run as its steps wrote them?"""

from dataclasses import dataclass

from pbb_probe.errors import PbbError
from pbb_probe.schema import Place, check_fields
from pbb_probe.store.run import Run


@dataclass(frozen=True)
class VerifyConfig:
    """Which run is verified."""

    run: Place
    """Directory of a run, finished or not."""

    def __post_init__(self) -> None:
        check_fields(self)


def verify(config: VerifyConfig) -> None:
    """Compare every file of a run with its hash, whatever its size. Nothing is changed."""
    faults_of = Run.existing(config.run).verify()
    for name, faults in faults_of.items():
        print(f"{name}: {'; '.join(faults) or 'as it was written'}")
    if damaged := [name for name, faults in faults_of.items() if faults]:
        raise PbbError(
            f"{len(damaged)} of {len(faults_of)} steps are not as they were written ({', '.join(damaged)}): move "
            "elsewhere what no step wrote, and run it again, which does these steps anew and what follows from them."
        )
