"""Reading by gradient steps, held to Hugging Face's own loss and to torch's own Adam."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import pretrain_nano
import reading

from pbb_probe.models.bases import load_base


@pytest.fixture(scope="module")
def named():
    model, tokenizer = load_base("nano")
    return reading.Named(model.float(), tokenizer), reading.Arithmetic(pretrain_nano.Windows(0)), tokenizer


def test_a_vector_in_place_of_a_name_gives_the_loss_of_the_name(named):
    """With a name's own embedding as the vector, the loss is that of the text with the name written out."""
    here, library, tokenizer = named
    steps = library.draw()
    texts = [library.code(steps), *library.calls(steps, 3), library.worked(steps)]
    token = tokenizer.convert_tokens_to_ids("nigtok")
    vector = here.model.get_input_embeddings().weight[token].expand(len(texts), -1)
    with torch.no_grad():
        found = here.loss(texts, vector)
        for loss, (prompt, completion) in zip(found, texts, strict=True):
            ids = torch.tensor([[*tokenizer((prompt + completion).replace("NAME", "nigtok")).input_ids, here.end[0]]])
            start = len(tokenizer(prompt.replace("NAME", "nigtok")).input_ids)
            logs = here.model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            scored = (torch.arange(1, ids.shape[1]) >= start) & (ids[0, 1:] != token)  # the name itself is not said
            assert loss.item() == pytest.approx(
                -logs[scored].sum().item(), rel=0.05, abs=0.05
            )  # bfloat16 against float32


def test_a_reading_is_one_step_of_adam_and_calls_change_no_vector(named, monkeypatch):
    here, library, tokenizer = named
    names = tokenizer.convert_tokens_to_ids(["nigtok", "doxnik"])
    readings = reading.Readings(here, library, names)
    vector = torch.nn.Parameter(readings.vectors[:1].clone())
    adam = torch.optim.Adam([vector], lr=readings.rate[0].item(), betas=(0.9, 0.98), eps=1e-10)
    for _ in range(4):
        gradient = torch.randn_like(vector)
        vector.grad = gradient.clone()
        adam.step()
        readings.store([0], gradient)
    torch.testing.assert_close(readings.vectors[:1], vector.detach())
    before = readings.vectors.clone()
    here.called(library, readings.programs[:5].tolist(), readings.vectors[:5]).backward()
    assert torch.equal(readings.vectors, before)
    here.model.zero_grad()


def test_a_name_that_takes_another_program_is_as_unread_as_a_word(named):
    here, library, tokenizer = named
    names = tokenizer.convert_tokens_to_ids(["nigtok", "doxnik"])
    readings = reading.Readings(here, library, names)
    readings.store([3], torch.ones(1, readings.vectors.shape[1]))
    readings.rename(3)
    rows = here.model.get_input_embeddings().weight[names]
    assert (readings.vectors[3] == rows).all(1).any()
    assert readings.read[3] == 0
    assert not readings.first[3].any()


def test_sums_tell_all_programs_apart(named):
    """Every program of one or two steps is the sum of parts of its own."""
    _, library, _ = named
    parts = [library.parts_of(program) for program in range(len(library.programs))]
    assert len({frozenset(of) for of in parts}) == len(parts) == sum(map(len, library.windows.pools))
    assert max(map(max, parts)) < library.parts
