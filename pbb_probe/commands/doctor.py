"""The command `doctor`: the properties of this machine on which results, speed and safety depend."""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pbb_probe.programs.child import confinement

LAYERS = {
    "no_new_privs": "no new privileges",
    "landlock": "Landlock: no files, no network",
    "rlimits": "limits of time, memory, files, processes",
    "user": "not root",
    "seccomp": "seccomp: few system calls",
}
EXTRAS = {
    "umap-learn": "UMAP of activations",
    "nnsight": "benchmark against nnsight",
    "playwright": "tests of pages in a browser",
}
Rows = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class DoctorConfig:
    """Nothing can be chosen."""


def doctor(config: DoctorConfig) -> None:
    """Describe this machine: confinement of programs, cores, memory, accelerator, packages."""
    for title, section in (
        ("Confinement of programs", _confinement),
        ("Machine", _machine),
        ("Optional", _optional),
        ("Packages", _packages),
    ):
        print(title)
        rows = _safely(section)
        width = max(len(what) for what, _ in rows)
        for what, state in rows:
            print(f"  {what:<{width}}  {' '.join(state.split())}")


def _safely(section: Callable[[], Rows]) -> list[tuple[str, str]]:
    """The rows of a section, or one that says why it failed: whatever is broken, the other sections are printed."""
    try:
        return list(section())
    except Exception as error:
        return [("cannot be told", str(error) or type(error).__name__)]


def _confinement() -> Rows:
    """As reported by a child process that is confined for this purpose."""
    for layer, missing in confinement().items():
        yield LAYERS.get(layer, layer), f"missing: {missing}" if missing else "in force"


def _machine() -> Rows:
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "Python", platform.python_version()
    yield "CPU cores", f"{_cores()} usable of {os.cpu_count()}"
    yield "memory", _memory()
    yield from _safely(_accelerator)


def _cores() -> int:
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    try:
        pages = {name: os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES")}
        total, free = (n * os.sysconf("SC_PAGE_SIZE") / 2**30 for n in pages.values())
    except (OSError, ValueError, AttributeError):  # there are no such names on other systems
        return "unknown"
    return f"{total:.1f} GiB, {free:.1f} GiB of it unused"


def _accelerator() -> Rows:
    import torch

    if not torch.accelerator.is_available():
        yield "accelerator", "none: models run on the CPU"
        return
    kind = torch.accelerator.current_accelerator()
    for k in range(torch.accelerator.device_count()):
        name = torch.cuda.get_device_name(k) if kind and kind.type == "cuda" else ""
        yield f"accelerator {k}", f"{kind} {name}"


def _optional() -> Rows:
    for package, purpose in EXTRAS.items():
        version = _version(package)
        yield package, f"{version or 'not installed'} ({purpose})"
    yield from _safely(_browser)


def _browser() -> Rows:
    from choreographer.browsers.chromium import Chromium

    yield "Chromium", f"{Chromium.find_browser(skip_local=False) or 'not found'} (figures as PNG)"


def _packages() -> Rows:
    """The installed version of each package that this one requires, beside the versions it asks for."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, importlib.metadata.requires("pbb-probe") or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = _version(requirement.name)
            fits = version is not None and requirement.specifier.contains(version, prereleases=True)
            yield (
                requirement.name,
                f"{version or 'not installed'}{'' if fits else f', but {requirement.specifier} is needed'}",
            )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
