"""Odd things that users give, by kind: values of fields, configuration files, programs, prompts and models."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from damage import Damage, edited, empty, garbage, saying

NUMBERS = (
    ".nan",
    ".inf",
    "-.inf",
    "-1",
    "0",
    "1e400",
    "10000000000",
    "99999999999999999999999",
    "true",
    "null",
    "[]",
    "''",
    "x",
    "0.5",
    "'3'",
)
FIELDS = (
    "seed",
    "calls",
    "draws",
    "threshold",
    "margin",
    "equivalence",
    "corpus.with_io",
    "corpus.without_io",
    "corpus.shown_inputs",
    "corpus.composed_with_io",
    "train.learning_rate",
    "train.batch_size",
    "train.gradient_accumulation",
    "train.warmup",
    "train.decay",
    "train.weight_decay",
    "train.exposures",
    "train.replay_share",
    "train.checkpoint_every",
    "train.generations",
    "train.lora.rank",
    "train.lora.dropout",
    "probing.prompts",
    "probing.folds",
    "probing.C",
    "patching.pairs",
    "transfer.pairs",
)
NAMES = (
    "[]",
    "null",
    "[resid_post, resid_post]",
    "[resid_past]",
    "[1]",
    "['']",
    "x",
    "{}",
    "[null]",
    "['\\u0000']",
    "[['answer']]",
)
NAMED = (
    "base",
    "curriculum",
    "corpus.family",
    "corpus.shapes",
    "corpus.programs",
    "train.loss_on",
    "train.dtype",
    "train.replay",
    "probing.sites",
    "probing.roles",
    "probing.targets",
    "probing.controls",
    "probing.lens",
    "probing.interchange",
    "patching.sites",
    "patching.roles",
    "transfer.sites",
    "transfer.roles",
    "transfer.controls",
    "out",
)
CONFIGS: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a number": b"5",
    "a list": b"[1, 2]",
    "a text": b"nano",
    "not UTF-8": b"base: \xff\xfe",
    "UTF-16": "seed: 1".encode("utf-16"),
    "NUL": b"seed: \x00",
    "tabs": b"seed:\t\t- 1\n\t-",
    "an object": b"base: !!python/object/apply:os.system ['touch hacked']",
    "a null part": b"corpus: null",
    "a part that is a list": b"corpus: [1]",
    "a part that is a text": b"probing: all",
    "an unknown field": b"corpus: {with_oi: 3}",
    "a field twice": b"seed: 1\nseed: 2",
    "laughs": b"a: &a [x, x]\nb: &b [*a, *a]\nseed: *b",
    "unclosed": b"corpus: {with_io: 3",
    "deep": b"seed: " + b"[" * 5000,
    "a field that is a mapping": b"seed: {a: 1}",
    "another document": b"seed: 1\n---\nseed: 2",
}
DEEP = "(" * 90 + "x" + ")" * 90
PROGRAMS: dict[str, str] = {
    "no line": "",
    "null": "null",
    "a list": "[]",
    "a text": '"def f(x): return x"',
    "source is 5": '{"source": 5, "inputs": [[1]]}',
    "source is an object": '{"source": {}, "inputs": [[1]]}',
    "no inputs": '{"source": "def f(x):\\n    return x"}',
    "inputs are 5": '{"source": "def f(x):\\n    return x", "inputs": 5}',
    "a group of lists": '{"source": "def f(x):\\n    return x", "inputs": [[1], [2]], "group": []}',
    "half a surrogate": '{"source": "def f(x):\\n    return \'\\ud800\'", "inputs": [[1], [2]]}',
    "a surrogate input": '{"source": "def f(x):\\n    return x", "inputs": [["\\ud800"], [2]]}',
    "a deep input": '{"source": "def f(x):\\n    return 1", "inputs": [' + "[" * 900 + "]" * 900 + "]}",
    "a sum of 900": json.dumps({"source": "def f(x):\n    return " + " + ".join(["x"] * 900), "inputs": [[1], [2]]}),
    "a huge number": json.dumps({"source": f"def f(x):\n    return x + 0x{'f' * 5000}", "inputs": [[1], [2]]}),
    "a huge input": '{"source": "def f(x):\\n    return x", "inputs": [[' + "9" * 5000 + "]]}",
    "an import": '{"source": "import os\\ndef f(x):\\n    return x", "inputs": [[1]]}',
    "a loop": '{"source": "def f(x):\\n    while True:\\n        x = 1", "inputs": [[1], [2]]}',
    "no end of memory": json.dumps({"source": "def f(x):\n    return [0] * 10 ** 12", "inputs": [[1], [2]]}),
    "a name twice": '{"source": "def f(x):\\n    return x", "inputs": [[1]]}\n' * 2,
    "NaN": '{"source": "def f(x):\\n    return x", "inputs": [[NaN]]}',
}
TEXT = "apply dolvik to 4 ."
PROMPTS: dict[str, Any] = {
    "no text": {"label": 1},
    "text is 5": {"text": 5},
    "a list": [1],
    "null": None,
    "an empty text": {"text": ""},
    "half a surrogate": {"text": "\ud800 4"},
    "a label of lists": {"text": TEXT, "x": [1]},
    "a label of objects": {"text": TEXT, "x": {"a": 1}},
    "labels of null": {"text": TEXT, "x": None},
    "a role that is not there": {"text": TEXT, "roles": {"r": "zzz"}},
    "a role beyond": {"text": TEXT, "roles": {"r": [5, 900]}},
    "a role backwards": {"text": TEXT, "roles": {"r": [9, 2]}},
    "a role of truth values": {"text": TEXT, "roles": {"r": [True, False]}},
    "roles are a list": {"text": TEXT, "roles": [1]},
    "a label called layer": {"text": TEXT, "layer": 1},
    "a label that climbs": {"text": TEXT, "../../../x": "VARIES"},
    "a label of one value": {"text": TEXT, "x": 1},
    "a huge number": {"text": TEXT, "x": 10**400},
    "NaN": {"text": TEXT, "x": float("nan")},
    "a surrogate label": {"text": TEXT, "\ud800": "\ud800"},
}
MODELS: dict[str, Damage] = {
    "no layers": edited(r'"num_hidden_layers": \d+', '"num_hidden_layers": 0'),
    "fewer than no layers": edited(r'"num_hidden_layers": \d+', '"num_hidden_layers": -1'),
    "a billion layers": edited(r'"num_hidden_layers": \d+', '"num_hidden_layers": 1000000000'),
    "layers that are a text": edited(r'"num_hidden_layers": \d+', '"num_hidden_layers": "six"'),
    "layers that are null": edited(r'"num_hidden_layers": \d+', '"num_hidden_layers": null'),
    "an odd width": edited(r'"hidden_size": \d+', '"hidden_size": 7'),
    "an endless width": edited(r'"hidden_size": \d+', '"hidden_size": 99999999999'),
    "a width that is no number": edited(r'"hidden_size": \d+', '"hidden_size": NaN'),
    "no heads": edited(r'"num_attention_heads": \d+', '"num_attention_heads": 0'),
    "a vocabulary of none": edited(r'"vocab_size": \d+', '"vocab_size": 0'),
    "an unknown kind": edited(r'"model_type": "\w+"', '"model_type": "oracle"'),
    "code of its own": edited(r"^{", '{"auto_map": {"AutoModelForCausalLM": "own.Model"}, '),
    "a config that is a list": saying("[]"),
    "an empty config": empty,
    "a config that is no text": garbage,
}
"""Of the config.json of nano."""


def odd_inputs(folder: Path, config: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Each odd input with its kind, what it is, and the command that is given it. Its files are written into a folder.

    Args:
        folder: for the files.
        config: of a study that takes seconds, for what turns out to be fine.
    """
    from pbb_probe.models.bases import resolve_base

    folder.mkdir(parents=True)
    run = ["run", "--config", str(config), "--out", "out"]
    for fields, values in ((FIELDS, NUMBERS), (NAMED, NAMES)):
        for name in fields:
            for value in values:
                yield "values of fields", f"{name}: {value}", [*run, f"--{name}={value}"]
    for what, content in CONFIGS.items():
        path = folder / f"config {what}.yaml"
        path.write_bytes(content)
        yield "configuration files", what, ["run", "--config", str(config), "--config", str(path), "--out", "out"]
    for what, text in PROGRAMS.items():
        path = folder / f"programs {what}.jsonl"
        path.write_text(text)
        yield "programs", what, [*run, f"--corpus.programs={path}", "--corpus.shown_inputs=1"]
    for what, row in PROMPTS.items():
        path = folder / f"prompts {what}.jsonl"
        lines = [dict(row, label=i % 2) if isinstance(row, dict) else row for i in range(12)]
        path.write_text("\n".join(map(json.dumps, lines)).replace('"VARIES"', "0", 6).replace('"VARIES"', "1"))
        probe = ["probe", "--model=nano", f"--prompts={path}", "--save_probes=true", "--draws=50", "--out=out"]
        yield "prompts", what, probe
    for what, damage in MODELS.items():
        path = folder / f"model {what}"
        path.mkdir()
        for file in Path(resolve_base("nano")).iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        damage(path / "config.json")
        yield "models", what, [*run, f"--base={path}"]
