"""What is typed has limits that are said, before a model is asked; who waits for the model in vain is told so."""

import threading
import time

import pytest
from callbacks import CALLBACKS, bodies

import pbb_probe as pbb
from pbb_probe.views.explorer import activations, attention, live
from pbb_probe.views.explorer import explored as explored_module
from pbb_probe.views.explorer.app import PAGES, make_app
from pbb_probe.views.explorer.controls import MOST_TYPED
from pbb_probe.views.explorer.explored import Explored


@pytest.fixture(scope="module")
def explored(runs):
    return Explored(runs / "whole")


@pytest.fixture(scope="module")
def ask(explored):
    """`ask(name, values)`: the answer to a request of this name, with other values of some parts of its page."""
    app = make_app(explored)
    client = app.server.test_client()
    client.get("/")
    asked = bodies(app, explored)

    def entries(part):
        return [entry for group in part for entry in (group if isinstance(group, list) else [group])]

    def post(name: str, **values) -> str:
        body = {**asked[name]}
        for part in ("inputs", "state"):
            body[part] = [
                [changed(entry, values) for entry in group] if isinstance(group, list) else changed(group, values)
                for group in body[part]
            ]
        named = {name_of(entry) for part in ("inputs", "state") for entry in entries(body[part])}
        assert set(values) <= named
        response = client.post(CALLBACKS, json=body)
        assert response.status_code == 200, response.text
        return response.text

    def name_of(entry) -> str:
        return next(iter(entry["id"].values())) if isinstance(entry["id"], dict) else entry["property"]

    def changed(entry, values):
        return {**entry, "value": values.get(name_of(entry), entry["value"])}

    return post


@pytest.fixture
def no_model(explored, monkeypatch):
    """A model that is asked, once it is open, fails the test."""
    import transformer_lens

    for name in ("base", "finetuned"):
        explored.run.model(name)

    def forward(*_, **__):
        raise AssertionError("The model was asked.")

    monkeypatch.setattr(transformer_lens.model_bridge.TransformerBridge, "forward", forward)
    monkeypatch.setattr(live, "swept", forward)


TYPED = {
    "/program": ("call", "other"),
    "/attention": ("call", "other"),
    "/prompt": ("clean", "corrupted", "roles", "answers"),
}


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in TYPED.items() for name in names])
def test_what_is_typed_may_have_so_many_characters(ask, no_model, path, name):
    said = ask(f"view {path}", **{name: "3" * (MOST_TYPED + 1)})
    assert f"has {MOST_TYPED + 1:,} characters: give at most {MOST_TYPED:,}." in said
    assert '"type":"Graph"' not in said


def test_values_are_selected_by_a_text_of_so_many_characters(ask):
    assert f"give at most {MOST_TYPED:,}" in ask("wanted", value="output = 3," * 200)


@pytest.mark.parametrize("model", ["base", "finetuned"])
def test_a_prompt_may_have_so_many_tokens(explored, ask, no_model, model):
    most = min(live.MOST_TOKENS, explored.run.model(model).cfg.n_ctx)
    long = "run 3 " * 160
    n = pbb.Prompts.from_texts(explored.run.model(model), [long]).tokens.shape[1]
    assert n > most
    said = ask("view /prompt", model=model, clean=long, corrupted=long, roles="", answers="1 | 2")
    assert f"has {n} tokens: give one of at most {most}" in said
    assert '"type":"Graph"' not in said


def test_as_many_tokens_as_may_be_are_answered(explored, ask):
    text = " 3" * 254
    assert pbb.Prompts.from_texts(explored.run.model("base"), [text]).tokens.shape[1] <= live.MOST_TOKENS
    begun = time.monotonic()
    said = ask("view /prompt", model="base", clean=text, corrupted=text, roles="", answers="1 | 2")
    assert '"figure-clean"' in said
    assert time.monotonic() - begun < 30


def test_a_deep_model_is_patched_at_fewer_tokens(explored, ask, monkeypatch):
    monkeypatch.setattr(live, "MOST_CELLS", 4 * explored.run.model().cfg.n_layers)
    said = ask("view /program", call="5")
    assert "at most 4 are patched here" in said
    assert '"figure-answer"' in said  # what is not patched is shown


def test_a_long_call_has_a_limit_too(ask, monkeypatch):
    monkeypatch.setattr(live, "MOST_TOKENS", 3)
    said = ask("view /program", call="4")
    assert "give one of at most 3" in said
    assert "give one of at most 3" in ask("view /attention", call="4")


def test_a_few_roles_may_be_typed(ask, no_model):
    assert "There are 33 roles: give at most 32." in ask(
        "view /prompt", roles="\n".join(f"r{i} = (" for i in range(33))
    )


def test_patterns_that_are_too_many_are_not_drawn(ask, monkeypatch):
    monkeypatch.setattr(attention, "MOST_CELLS", 10)
    said = ask("view /attention", layers="all")
    assert "at most 10 are drawn" in said
    assert '"figure-heads"' in said


def test_umap_of_too_many_prompts_is_refused(ask, monkeypatch):
    monkeypatch.setattr(activations, "MOST_OF_UMAP", 400)
    assert "at most 10 are laid out here" in ask("view /activations", method="umap")


def test_a_method_without_a_solution_is_named(ask):
    """All activations of an input are alike at a layer of the planted model."""
    assert "LDA has no solution for resid_post at the answer" in ask(
        "view /activations", method="lda", variable="input", axes="3"
    )


@pytest.mark.parametrize("path", list(PAGES))
def test_an_address_with_wild_values_shows_a_view(explored, ask, path):
    for search in ("?layer=" + "9" * 5000, "?role=%ff&layer=²&selection=!!&clean=" + "x" * 2000, "?layers=x&axes=7"):
        said = ask(f"page {path}", search=search)
        assert "notice missing" not in said
        assert '"controls"' in said
    assert "more than 100 parameters" in ask(f"page {path}", search="?" + "a=1&" * 101)


def test_a_choice_that_is_not_offered_is_named(ask):
    for path, name in (("/activations", "axes"), ("/layers", "role"), ("/prompt", "model"), ("/compare", "measure")):
        assert "There is no 'nowhere' to choose under" in ask(f"view {path}", **{name: "nowhere"})
    assert "There is no layer 99: give one from 0 to 3." in ask("view /activations", layer=99)
    assert "There is no layer 99" in ask("layer", layer=99)


def test_the_first_layer_is_the_first(ask):
    assert "layer=0,\\n" in ask("layer", layer=0)
    assert "layer=3,\\n" in ask("layer", layer=3)


@pytest.mark.parametrize("name", ["view /program", "view /attention", "view /prompt", "view /activations"])
def test_who_waits_in_vain_is_told(explored, ask, monkeypatch, name):
    monkeypatch.setattr(explored_module, "PATIENCE", 0.3)
    held, done = threading.Event(), threading.Event()

    def hold(*_) -> None:
        held.set()
        done.wait(60)

    keepers = [threading.Thread(target=once, args=(hold, name)) for once in (explored.computed, explored.crunched)]
    for keeper in keepers:
        held.clear()
        keeper.start()
        held.wait(60)
    begun = time.monotonic()
    try:
        said = ask(name)
    finally:
        done.set()
        for keeper in keepers:
            keeper.join()
    assert time.monotonic() - begun < 5
    assert "The model is busy with what was asked before" in said
    assert said.count("The model is busy") == 1
    assert "notice missing" not in ask(name)


def test_a_defect_of_ours_is_written_down(ask, monkeypatch, capfd):
    monkeypatch.setattr(activations, "content", lambda _: 1 / 0)
    assert "could not be made (ZeroDivisionError" in ask("view /activations")
    assert "ZeroDivisionError" in capfd.readouterr().err
