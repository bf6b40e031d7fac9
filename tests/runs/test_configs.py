"""The ready configurations are read by the command line, and their memory estimates are what the estimator says."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from pbb_probe.commands.cli import commands
from pbb_probe.finetuning.config import LoraSettings, TrainConfig

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CONFIGS = sorted((EXPERIMENTS / "configs").glob("*.yaml"))
sys.path.insert(0, str(EXPERIMENTS))

from estimate_memory import SHAPES, TOKENS, estimate  # noqa: E402


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("command", ["run", "finetune"])
def test_every_config_is_read_whole_by_the_commands(path: Path, command: str):
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(commands()[command][0], as_group=False)
    fields = parser.instantiate_classes(parser.parse_args(["--config", str(path)]))
    given = yaml.safe_load(path.read_text())
    assert fields.base == given["base"]
    assert isinstance(fields.train, TrainConfig)
    assert fields.train.learning_rate == given["train"]["learning_rate"]
    assert (fields.train.lora and fields.train.lora.rank) == given["train"].get("lora", {}).get("rank")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_memory_in_a_config_is_the_estimate(path: Path):
    settings = yaml.safe_load(path.read_text())
    lora = settings["train"].pop("lora", None)
    parts = estimate(settings["base"], TrainConfig(**settings["train"], lora=lora and LoraSettings(**lora)))
    (stated,) = re.findall(r"about (\d+) GB", path.read_text())
    assert round(parts["total"]) == int(stated)


def test_the_estimate_by_hand():
    parts = estimate("Qwen/Qwen2.5-0.5B", TrainConfig(batch_size=8, bf16=True))
    assert round(parts["parameters (M)"], 1) == 494.0  # the published size
    assert parts["weights"] == parts["gradients"] == pytest.approx(parts["optimizer"] / 2)
    assert parts["logits"] == pytest.approx(8 * TOKENS * 151936 * (2 + 8) / 1e9)
    linear_widths = 2 * 896 + (896 + 896) + 2 * (896 + 128) + 3 * (896 + 4864)  # q; o; k, v; gate, up, down
    adapter = estimate("Qwen/Qwen2.5-0.5B", TrainConfig(lora=LoraSettings(rank=4)))
    assert adapter["gradients"] == pytest.approx(24 * 4 * linear_widths * 4 / 1e9)


def test_the_shapes_have_the_published_sizes():
    published = {"meta-llama/Llama-3.2-1B": 1.24, "Qwen/Qwen2.5-1.5B-Instruct": 1.54, "Qwen/Qwen3-1.7B": 1.72}
    for base, billions in published.items():
        assert base in SHAPES
        assert estimate(base, TrainConfig())["parameters (M)"] / 1000 == pytest.approx(billions, abs=0.01)
