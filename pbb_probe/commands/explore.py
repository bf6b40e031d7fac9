"""The command `explore`: a run in the browser."""

from dataclasses import dataclass
from typing import Annotated

from pbb_probe.schema import Name, Place, check_fields, whole


@dataclass(frozen=True)
class ExploreConfig:
    """Which run is looked at, and where it is served."""

    run: Place
    """Directory of a run, finished or not, that `pbb-probe run` wrote."""
    port: Annotated[int, whole(0, 2**16 - 1)] = 8050
    """Port; 0 takes a free one."""
    host: Name = "127.0.0.1"
    """Address to serve at. Other than a loopback address, whoever reaches it can read the run and use its model."""

    def __post_init__(self) -> None:
        check_fields(self)


def explore(config: ExploreConfig) -> None:
    """Look at a run in the browser: verdict, layers, single programs, activations, attention. Nothing is changed."""
    from pbb_probe.views.explorer.app import serve

    serve(config.run, config.host, config.port)
