"""Training: every way of saving memory or sharing work ends with the same weights, and directories keep settings."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from damaged import cut_short, flipped
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

import pbb_probe as pbb
from pbb_probe.finetuning import trainer
from pbb_probe.finetuning.config import LoraSettings, TrainConfig
from pbb_probe.finetuning.curricula import Portion, Stage
from pbb_probe.finetuning.train import train_stage
from pbb_probe.finetuning.unfinished import StageDirectory
from pbb_probe.models.bases import load_base, load_tokenizer, resolve_base
from pbb_probe.models.scoring import answer_log_probs, batches
from pbb_probe.models.tokens import completion_ids, end_ids, prompt_ids

ARCHITECTURES = ("llama3", "qwen2", "qwen3", "gpt2", "neox", "mistral", "gemma2")
STAGE = Stage(
    "short", ((Portion("with_io", "code", 4),), (Portion("with_io", "io", 6), Portion("with_io", "trace", 2)))
)
CONFIG = TrainConfig(batch_size=16, checkpoint_every=3)
TINY = Stage("tiny", ((Portion("with_io", "io", 5), Portion("with_io", "trace", 1)),))  # unequal lengths
LONGER = Stage("longer", ((Portion("with_io", "io", 40),),))
STEADY = TrainConfig(batch_size=8, learning_rate=1e-3, warmup=0.0)
LORA = LoraSettings(rank=4, alpha=8)


@pytest.fixture(scope="module")
def few():
    return pbb.make_corpus(with_io=4, without_io=2, seed=3)


def weights(directory) -> dict[str, torch.Tensor]:
    return load_file(Path(directory) / "model.safetensors")


def distance(one, other) -> float:
    """The largest difference between any two weights."""
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def knowledge(directory, corpus) -> float:
    """The mean log-probability of the shown answers, ends included."""
    model, tokenizer = load_base(directory)
    calls = corpus.calls("direct", group="with_io")
    calls = calls[calls["seen"]]
    prompts = list(calls["prompt"])
    answers = [ids + end_ids(tokenizer) for ids in completion_ids(tokenizer, prompts, list(calls["completion"]))]
    return float(
        answer_log_probs(model, batches(prompt_ids(tokenizer, prompts), answers, tokenizer.pad_token_id)).mean()
    )


class Killed(BaseException):
    pass


def killed_at(n: int, monkeypatch) -> list[int]:
    """Training dies before its n-th step; the list has an item for each step begun, after the kill too."""
    steps: list[int] = []
    step = Trainer.training_step

    def dying_step(self, *args, **kwargs):
        steps.append(len(steps))
        if len(steps) == n:
            raise Killed
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", dying_step)
    return steps


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8, dropout=0.1)], ids=["all", "lora"])
def test_a_killed_stage_resumes_and_ends_with_the_same_weights(lora, corpus, tmp_path, monkeypatch):
    config = replace(CONFIG, lora=lora)
    whole = train_stage("nano", corpus, STAGE, tmp_path / "whole", seed=1, config=config)
    steps = killed_at(6, monkeypatch)
    with pytest.raises(Killed):
        train_stage("nano", corpus, STAGE, tmp_path / "killed", seed=1, config=config)
    assert not (tmp_path / "killed").exists()
    cut_short = tmp_path / ".killed.unfinished" / ".checkpoints" / "checkpoint-5"  # a kill while it was being written
    cut_short.mkdir()
    (cut_short / "model.safetensors").write_bytes(b"half")
    resumed = train_stage("nano", corpus, STAGE, tmp_path / "killed", seed=1, config=config)
    assert len(steps) < 6 + 9  # it went on from step 3: nine steps in all were never taken twice
    assert distance(whole, resumed) == 0
    assert distance(whole, resolve_base("nano")) > 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


@pytest.mark.parametrize(
    ("damaged", "goes_on_from"),
    [
        ({"checkpoint-6/optimizer.pt": cut_short}, 3),
        ({"checkpoint-6/model.safetensors": flipped}, 3),
        ({"checkpoint-6/trainer_state.json": Path.unlink}, 3),
        ({"checkpoint-6/checkpoint.json": cut_short}, 3),
        ({"checkpoint-6/scheduler.pt": flipped, "checkpoint-3/rng_state.pth": flipped}, 0),
        ({"../training.json": cut_short}, 0),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(corpus, tmp_path, monkeypatch, capsys, damaged, goes_on_from):
    whole = train_stage("nano", corpus, STAGE, tmp_path / "whole", seed=1, config=CONFIG)
    steps = killed_at(8, monkeypatch)
    with pytest.raises(Killed):
        train_stage("nano", corpus, STAGE, tmp_path / "killed", seed=1, config=CONFIG)
    checkpoints = tmp_path / ".killed.unfinished" / ".checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-3", "checkpoint-6"}
    for name, damage in damaged.items():
        damage(checkpoints / name)
    capsys.readouterr()
    resumed = train_stage("nano", corpus, STAGE, tmp_path / "killed", seed=1, config=CONFIG)
    assert len(steps) == 8 + 9 - goes_on_from
    assert distance(whole, resumed) == 0
    said = capsys.readouterr().err
    assert said.count(": passed over\n") == sum(name.startswith("checkpoint") for name in damaged)
    assert ("training goes on from checkpoint-3" in said) == bool(goes_on_from)


def test_a_finished_model_that_was_touched_is_trained_again(corpus, tmp_path, monkeypatch, capsys):
    stage = train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG)
    before, record = (
        {name: value.clone() for name, value in weights(stage).items()},
        (stage / "training.json").read_text(),
    )
    flipped(stage / "model.safetensors")
    train_stage("nano", corpus, STAGE, stage, seed=1, config=CONFIG)
    assert "trained again, as model.safetensors is not as it was written (other content)" in capsys.readouterr().err
    assert all(torch.equal(value, before[name]) for name, value in weights(stage).items())
    assert (stage / "training.json").read_text() == record
    (stage / "training.json").unlink()
    with pytest.raises(pbb.PbbError, match="holds no model that this version has trained: give another directory"):
        train_stage("nano", corpus, STAGE, stage, seed=1, config=CONFIG)


def test_a_kill_before_the_renaming_trains_nothing_anew(corpus, tmp_path, monkeypatch):
    def killed(*_):
        raise Killed

    monkeypatch.setattr(StageDirectory, "finish", killed)
    with pytest.raises(Killed):
        train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG)
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: pytest.fail("trained again"))
    stage = train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG)
    assert not list(stage.glob(".*"))
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_a_base_counts_by_what_is_in_it_and_not_by_its_path(corpus, tmp_path, monkeypatch):
    base = shutil.copytree(resolve_base("nano"), tmp_path / "base")
    stage = train_stage(base, corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG)
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.chdir(tmp_path)
    for spelling in ("./base", base, "nano"):
        assert train_stage(spelling, corpus, STAGE, stage, seed=1, config=CONFIG) == stage
    base.rename(tmp_path / "moved")
    train_stage("moved/../moved", corpus, STAGE, "stage", seed=1, config=CONFIG)
    (tmp_path / "moved" / "chat_template.jinja").write_text("another way to ask")
    with pytest.raises(pbb.PbbError, match="other settings"):
        train_stage(tmp_path / "moved", corpus, STAGE, stage, seed=1, config=CONFIG)


def test_a_finished_stage_is_returned_and_one_with_other_settings_refused(corpus, tmp_path, monkeypatch):
    train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG)
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: pytest.fail("trained again"))
    assert train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG) == tmp_path / "stage"
    others = (
        {"seed": 2},
        {"config": replace(CONFIG, learning_rate=1e-5)},
        {"config": replace(CONFIG, lora=LoraSettings())},
        {"corpus": pbb.make_corpus(with_io=12, without_io=4, seed=4)},
        {"stage": replace(STAGE, rate=2.0)},
        {"base": str(tmp_path / "stage")},
    )
    for changed in others:
        given = {"base": "nano", "corpus": corpus, "stage": STAGE, "seed": 1, "config": CONFIG} | changed
        with pytest.raises(pbb.PbbError, match="other settings"):
            train_stage(out=tmp_path / "stage", **given)


def test_other_replay_texts_are_other_settings(few, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n\ntwo")
    config = replace(STEADY, replay=str(texts))
    train_stage("nano", few, TINY, tmp_path / "stage", config=config)
    texts.write_text("one\n\nthree")
    with pytest.raises(pbb.PbbError, match="other settings"):
        train_stage("nano", few, TINY, tmp_path / "stage", config=config)


def test_unfinished_work_with_other_settings_is_begun_anew(corpus, tmp_path, monkeypatch, capsys):
    whole = train_stage("nano", corpus, STAGE, tmp_path / "whole", seed=2, config=CONFIG)
    steps = killed_at(6, monkeypatch)
    with pytest.raises(Killed):
        train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG)
    other = train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=2, config=CONFIG)
    assert len(steps) == 6 + 9
    assert distance(whole, other) == 0
    assert ".stage.unfinished: begun anew, as the work in it has other settings" in capsys.readouterr().err


def test_finetune_learns_what_it_reads(corpus, tmp_path):
    """A corpus small enough to learn by heart: shown answers come back, code-only programs stay unknown to stage 1."""
    config = TrainConfig(batch_size=16, learning_rate=1e-3, exposures=3)
    path = pbb.finetune("nano", corpus, "stage1_only", out=tmp_path, seed=0, config=config)
    table = pbb.evaluate(path, corpus, modes=("direct",)).to_dataframe()
    accuracy = table.groupby(["group", "seen"])["correct"].mean()
    assert accuracy["with_io", True] > 0.9
    assert accuracy["without_io", False] < 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_learns_and_is_evaluated(architecture, few, small_model, tmp_path):
    config = replace(STEADY, learning_rate=3e-3)
    path = train_stage(small_model(architecture), few, TINY, tmp_path / "stage", config=config)
    assert knowledge(path, few) > knowledge(small_model(architecture), few) + 1
    model = AutoModelForCausalLM.from_pretrained(path)
    base = AutoModelForCausalLM.from_pretrained(small_model(architecture))
    assert type(model) is type(base)
    same = {name: torch.equal(weight, base.state_dict()[name]) for name, weight in model.state_dict().items()}
    assert not [name for name, alike in same.items() if alike]  # every weight is trained
    behaviour = pbb.evaluate(path, few, n=4)
    assert behaviour.sizes["call"] == 2 * 2 * 4
    assert set(behaviour["forced"].sel(call=behaviour["mode"] == "direct").values) <= {0.0, 1.0}


@pytest.mark.parametrize("architecture", ["llama3", "gpt2", "neox", "gemma2"])
def test_an_adapter_is_trained_and_merged(architecture, few, small_model, tmp_path):
    """The merged weight is base + alpha / rank * B A, by hand from the adapter; the rest is the base's."""
    base = small_model(architecture)
    path = train_stage(base, few, LONGER, tmp_path / "s", config=replace(STEADY, lora=LORA, learning_rate=1e-2))
    adapter = load_file(path / "adapter" / "adapter_model.safetensors")
    expected = weights(base)
    adapted = 0
    for name, a in adapter.items():
        if ".lora_A." not in name:
            continue
        update = LORA.alpha / LORA.rank * adapter[name.replace("lora_A", "lora_B")] @ a
        target = name.removeprefix("base_model.model.").replace(".lora_A", "")
        assert update.abs().max() > 1e-3, target
        expected[target] = expected[target] + (update.T if architecture == "gpt2" else update)  # Conv1D is transposed
        adapted += 1
    assert adapted >= 4 * 3  # several in each layer
    merged = weights(path)
    assert merged.keys() == expected.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(weight, expected[name], msg=name)
    assert knowledge(path, few) > knowledge(base, few) + 1


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
def test_the_merged_directory_computes_what_the_adapter_on_its_base_does(architecture, few, small_model, tmp_path):
    from peft import PeftModel

    base = small_model(architecture)
    path = train_stage(base, few, TINY, tmp_path / "s", config=replace(STEADY, lora=LORA, learning_rate=1e-2))
    tokens = torch.tensor([[5, 17, 200, 31, 90, 4, 4, 255]])
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    with torch.inference_mode():
        before = plain(tokens).logits
        adapted = PeftModel.from_pretrained(plain, path / "adapter").eval()(tokens).logits
        merged = AutoModelForCausalLM.from_pretrained(path).eval()(tokens).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert (merged - before).abs().max() > 0.1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lora": LoraSettings(target_modules=["no_such_module"])}, "lora.target_modules"),
        ({"lora": LoraSettings(target_modules="(")}, "lora.target_modules"),
        ({"lora": LoraSettings(target_modules=["norm"])}, "lora.target_modules"),
        ({"chat": True}, "no chat template"),
        ({"replay": "nowhere.txt"}, r"nowhere\.txt"),
    ],
)
def test_what_does_not_fit_the_base_is_refused_with_nothing_written(change, said, few, small_model, tmp_path):
    config = replace(STEADY, **change)
    with pytest.raises(pbb.PbbError, match=said) as caught:
        train_stage(small_model("llama3"), few, TINY, tmp_path / "s", config=config)
    assert "\n" not in str(caught.value)
    with pytest.raises(pbb.PbbError, match=said):
        pbb.finetune(small_model("llama3"), few, "stage1_only", out=tmp_path / "out", config=config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("config", [5, {"learning_rate": 1}, "fast", TrainConfig, False])
def test_what_is_no_configuration_is_refused_with_nothing_written(config, few, tmp_path):
    with pytest.raises(pbb.PbbError, match="config must be a TrainConfig") as caught:
        pbb.finetune("nano", few, out=tmp_path / "out", config=config)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("curriculum", [5, None, ["proactive"], "inverse"])
def test_what_is_no_curriculum_is_refused_with_nothing_written(curriculum, few, tmp_path):
    with pytest.raises(pbb.PbbError, match="curriculum"):
        pbb.finetune("nano", few, curriculum, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_base_that_cannot_be_reinforced_is_refused_before_its_first_stage(few, small_model, tmp_path):
    with pytest.raises(pbb.PbbError, match="learned positions"):
        pbb.finetune(small_model("gpt2"), few, "retroactive_grpo", out=tmp_path / "out", config=STEADY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("llama3", {"gradient_accumulation": 4}),
        ("llama3", {"gradient_checkpointing": True}),
        ("gemma2", {"gradient_accumulation": 2, "gradient_checkpointing": True}),
        ("qwen2", {"gradient_accumulation": 4, "lora": LORA}),
        ("qwen2", {"gradient_checkpointing": True, "lora": LORA}),
    ],
)
def test_saving_memory_changes_no_weight(architecture, change, few, small_model, tmp_path):
    plain = replace(STEADY, lora=change.get("lora"))
    one = train_stage(small_model(architecture), few, TINY, tmp_path / "one", config=plain)
    other = train_stage(small_model(architecture), few, TINY, tmp_path / "other", config=replace(plain, **change))
    moved = distance(one, small_model(architecture))
    assert distance(one, other) < 0.02 * moved


def test_padding_on_the_left_trains_the_same_weights(few, small_model, tmp_path):
    """Positions count from the first token of a document, wherever a tokenizer likes its padding."""
    left = tmp_path / "left"
    AutoModelForCausalLM.from_pretrained(small_model("gpt2")).save_pretrained(left)
    AutoTokenizer.from_pretrained(small_model("gpt2"), padding_side="left").save_pretrained(left)
    assert load_tokenizer(left).padding_side == "left"
    config = replace(STEADY, batch_size=12)
    one = train_stage(small_model("gpt2"), few, TINY, tmp_path / "one", config=config)
    other = train_stage(left, few, TINY, tmp_path / "other", config=config)
    assert distance(one, other) < 0.02 * distance(one, small_model("gpt2"))


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        ({"bf16": True}, torch.float32),
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": "bfloat16", "lora": LORA, "bf16": True}, torch.float32),  # merged before it is rounded
    ],
)
def test_training_in_bfloat16(change, stored, few, small_model, tmp_path):
    base = small_model("llama3")
    config = replace(STEADY, learning_rate=1e-2, **change)
    path = train_stage(base, few, LONGER, tmp_path / "s", config=config)
    assert {weight.dtype for weight in weights(path).values()} == {stored}
    assert knowledge(path, few) > knowledge(base, few) + 1


def test_a_chat_is_learned_and_the_template_kept(few, chat_model, tmp_path):
    for name in ("chatml", "llama3"):
        base = chat_model(name)
        config = replace(STEADY, chat=True, learning_rate=3e-3)
        path = train_stage(base, few, TINY, tmp_path / name, config=config)
        assert load_tokenizer(path).chat_template == load_tokenizer(base).chat_template
        assert knowledge(path, few) > knowledge(base, few) + 1
        stops = AutoModelForCausalLM.from_pretrained(path).generation_config.eos_token_id
        assert set(stops) == {load_tokenizer(path).eos_token_id, *end_ids(load_tokenizer(path))}
        assert pbb.evaluate(path, few, n=4).sizes["call"] == 2 * 2 * 4


def test_training_without_chat_drops_the_template(few, chat_model, tmp_path):
    path = train_stage(chat_model("chatml"), few, TINY, tmp_path / "stage", config=STEADY)
    tokenizer = load_tokenizer(path)
    assert not tokenizer.chat_template
    assert tokenizer.decode(prompt_ids(tokenizer, ["f(2) ="])[0]) == "f(2) ="
    assert distance(path, chat_model("chatml")) > 1e-3


def test_a_chat_without_a_template_is_refused(few, small_model, tmp_path):
    with pytest.raises(pbb.PbbError, match="no chat template"):
        train_stage(small_model("qwen2"), few, TINY, tmp_path / "stage", config=replace(STEADY, chat=True))


def test_replayed_texts_are_read_in_the_stated_share_with_loss(few, small_model, tmp_path, monkeypatch):
    texts = ["Birds sing.", "Rain falls on the roof.", "Bread is made of flour."]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = replace(STEADY, replay=str(tmp_path / "texts.jsonl"), replay_share=0.25)
    tokenizer = load_tokenizer(small_model("llama3"))
    read = []
    step = Trainer.training_step

    def spy(self, model, inputs, *args, **kwargs):
        read.extend(zip(inputs["input_ids"].tolist(), inputs["labels"].tolist(), strict=True))
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", spy)
    train_stage(small_model("llama3"), few, TINY, tmp_path / "stage", config=config)
    replayed = [ids for ids, _ in read if any(tokenizer.decode(ids).startswith(text) for text in texts)]
    assert len(read) == 24 + 6
    assert len(replayed) == 6  # a quarter of 24 documents
    assert {tokenizer.decode(ids).partition("<eos>")[0] for ids in replayed} == set(texts)
    for ids, labels in read:
        counted = [label for label in labels if label != -100]
        text = tokenizer.decode(counted)
        if ids in replayed:
            assert text.removesuffix("<eos>") in texts
        else:
            assert text.endswith("<eos>")
            assert not tokenizer.decode(ids).startswith(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 0}, "above 0"),
        ({"batch_size": 0}, "at least 1"),
        ({"gradient_accumulation": 0}, "at least 1"),
        ({"checkpoint_every": 0}, "at least 1"),
        ({"batch_size": 10, "gradient_accumulation": 4}, "multiple"),
        ({"generations": 1}, "at least 2"),
        ({"replay_share": -0.1}, "replay_share"),
        ({"exposures": 0}, "exposures"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(fields, message):
    with pytest.raises(pbb.PbbError, match=message) as caught:
        TrainConfig(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_bad_adapter_settings_are_refused_in_one_sentence(fields):
    with pytest.raises(pbb.PbbError, match="lora") as caught:
        LoraSettings(**fields)
    assert "\n" not in str(caught.value)


def test_an_unknown_curriculum_and_missing_replay_texts_are_refused(corpus, tmp_path):
    with pytest.raises(pbb.PbbError, match="Unknown curriculum"):
        pbb.finetune("nano", corpus, "inverse", out=tmp_path)
    config = TrainConfig(replay=str(tmp_path / "none.txt"))
    with pytest.raises(pbb.PbbError, match=r"none\.txt"):
        pbb.finetune("nano", corpus, "stage1_only", out=tmp_path, config=config)


def test_a_step_that_the_processes_cannot_share_is_refused(monkeypatch, tmp_path):
    class Three:
        num_processes = 3

    monkeypatch.setattr(trainer, "processes", Three)
    with pytest.raises(pbb.PbbError, match="multiple of 3"):
        trainer.training_arguments(TINY, STEADY, 0, 10, tmp_path)


SHARED = """
import sys
import pbb_probe as pbb
from pbb_probe.finetuning import curricula
curricula.CURRICULA["tiny"] = (
    curricula.Stage("tiny", ((curricula.Portion("with_io", "io", 5), curricula.Portion("with_io", "trace", 1)),)),
)
corpus = pbb.make_corpus(with_io=4, without_io=2, seed=3)
config = pbb.TrainConfig(batch_size=8, learning_rate=1e-3, warmup=0.0)
pbb.finetune(sys.argv[1], corpus, "tiny", out=sys.argv[2], config=config)
from accelerate import PartialState
print("processes", PartialState().num_processes)
"""


def test_two_processes_end_with_the_weights_of_one(few, small_model, tmp_path):
    """By torchrun, which `accelerate launch` calls for several GPUs; with --cpu alone it starts a single process."""
    script = tmp_path / "script.py"
    script.write_text(SHARED)
    base, out = small_model("llama3"), tmp_path / "shared"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run(
        [*launch, str(script), base, str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("processes") == 2
    assert "processes 1" not in ended.stdout
    assert [path.name for path in out.iterdir()] == ["tiny"]
    alone = train_stage(base, few, TINY, tmp_path / "tiny", config=STEADY)
    assert {path.name for path in (out / "tiny").iterdir()} == {path.name for path in alone.iterdir()}
    assert distance(out / "tiny", alone) < 1e-5
    assert distance(alone, base) > 1e-3
