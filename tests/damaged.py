"""Damage to one file, for tests of what becomes of it."""

from pathlib import Path


def flipped(path: Path) -> None:
    """One bit in the middle is another."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    """Half of it is missing."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
