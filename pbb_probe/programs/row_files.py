"""The rows of a table on disk: JSONL, Parquet, Arrow, or a folder that the `datasets` library saved.

What a row means is no matter here. Nothing is written, not even to a cache.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError, first_line
from pbb_probe.programs.values import path_text
from pbb_probe.schema import shown

TABLES = (".parquet", ".arrow")
Row = tuple[int, Any]
"""A row with its number, the first being 1; in place of a row that cannot be read, its error."""


def jsonl_rows(text: str) -> Iterator[Row]:
    """The rows of a JSONL text, by the numbers of their lines; blank lines are left out."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                yield number, error


def table_rows(path: Path) -> Iterator[Row]:
    """The rows of a `.parquet` or `.arrow` file, or of a saved dataset: of a dictionary of splits, one after the other.

    Raises:
        PbbError: there is no such table, it cannot be read, or the package that reads it is not installed.
    """
    where = path_text(path)
    try:
        import datasets
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise PbbError(
            f"The table {where} is read by the package datasets, which is not installed ({first_line(error)}): "
            "pip install datasets."
        ) from error
    try:
        if path.is_dir():
            saved = datasets.load_from_disk(str(path))
            splits = list(saved.values()) if isinstance(saved, datasets.DatasetDict) else [saved]
            rows = (row for split in splits for row in split.with_format(None))  # plain values, of all columns
        elif path.suffix == ".parquet":
            rows = iter(pq.read_table(path).to_pylist())
        else:
            rows = iter(_arrow(path, pa).to_pylist())
        yield from enumerate(rows, start=1)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
        kinds = "the folder of a dataset's save_to_disk" if path.is_dir() else f"a {path.suffix} file"
        raise PbbError(f"The table {where} cannot be read ({first_line(error)}): give {kinds}.") from error


def _arrow(path: Path, pa: Any) -> Any:
    """The table of a file in the streaming format, which `datasets` writes, or in the one with random access."""
    with pa.memory_map(str(path)) as file:
        try:
            return pa.ipc.open_stream(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            return pa.ipc.open_file(file).read_all()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no key may stand twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a key stands twice among {shown([key for key, _ in pairs])}")
    return row
