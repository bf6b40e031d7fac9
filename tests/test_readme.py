"""The README's library example runs as it stands there, and the commands it names exist."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_ten_lines_run(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    scope: dict = {}
    exec(block, scope)
    shown = capsys.readouterr().out
    assert "resid_post" in shown
    # the code is in the context: carrying the constant into the other run carries the answer with it
    recovered = scope["pbb"].recovery(scope["effects"])["resid_pre"].mean("pair")
    assert float(recovered.sel(layer=0, role="constant")) > 0.9


def test_every_path_the_readme_names_exists():
    root = Path(__file__).parent.parent
    for path in re.findall(r"\]\(((?!http)[^)]+)\)", README) + re.findall(
        r"`((?:experiments|results)/[\w/.]*)`", README
    ):
        assert (root / path).exists(), path
