"""The command `explore`: a run in the browser."""

from dataclasses import dataclass

from pbb_probe.errors import PbbError


@dataclass(frozen=True)
class ExploreConfig:
    """Which run is looked at, and where it is served."""

    run: str
    """Directory of a run, finished or not, that `pbb-probe run` wrote."""
    port: int = 8050
    """Port; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to serve at. Other than a loopback address, whoever reaches it can read the run and use its model."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise PbbError(f"The port must be between 0 and {2**16 - 1}, not {self.port}.")


def explore(config: ExploreConfig) -> None:
    """Look at a run in the browser: verdict, layers, single programs, activations, attention. Nothing is changed."""
    from pbb_probe.views.explorer.app import serve

    serve(config.run, config.host, config.port)
