"""The explorer without a browser: the Python of its figures, what it refuses and reads, and what it serves."""

import http.client
import json
import shutil
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import plotly.io
import pytest
from dash_parts import control_values, figures_of
from sealed import seal

import pbb_probe as pbb
from pbb_probe.views.explorer.address import decode_selection, encode_selection
from pbb_probe.views.explorer.app import PAGES, make_server
from pbb_probe.views.explorer.cards import Asked
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.own_prompt import Typed
from pbb_probe.views.explorer.selected import matching


def test_what_is_outside_of_the_run_is_not_served(served):
    def got(path: str, host: str = "localhost") -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(served("whole")).netloc)
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read().decode()

    assert "react-entry-point" in got("/")[1]
    for path in ("/assets/../app.py", "/assets/..%2f..%2fapp.py", "/csv/unknown"):
        assert got(path)[0] == 404
    for path in ("/csv/..%2f..%2fconfig.json", "/config.json", "/../config.json", "//etc/passwd"):
        status, body = got(path)
        assert status in (308, 404) or "react-entry-point" in body, path  # the frame, which says that there is no page
        assert "curriculum" not in body
        assert "root:" not in body
    assert got("/", "example.org")[0] == got("/", "example.org:80")[0] == 403


@pytest.mark.parametrize("path", list(PAGES))
def test_the_python_of_every_figure_makes_that_figure(runs, path):
    explored = Explored(runs / "whole")
    n_prompts = explored.run.array("probing/probes").sizes["prompt"]
    some = {"selection": encode_selection(np.arange(n_prompts) < 40), "by": "selection"}
    others = {
        "/layers": [some, some | {"subset": "correct", "variable": "state_1"}],
        "/program": [{"swap": "program", "call": "5"}],
        "/activations": [some, some | {"axes": "3"}, {"method": "lda"}, {"site": "attn_out", "colour": "state_1"}],
        "/attention": [{"layers": "2"}],
        "/compare": [{"run": "hostile", "measure": measure} for measure in ("lens", "transfer", "recovery_input")],
        "/prompt": [{"model": "base", "answers": "3 | 4"}],
    }
    for query in [{}, *others.get(path, [])]:
        values = control_values(PAGES[path].controls(explored, query))
        found = figures_of(PAGES[path].content(Asked(explored, values)))
        assert found
        for name, (figure, code) in found.items():
            scope: dict = {}
            exec(code, scope)
            shown, made = (json.loads(plotly.io.to_json(one))["data"] for one in (figure, scope["figure"]))
            assert made == shown, name


def test_a_selection_as_text():
    some = np.random.default_rng(0).random(1003) < 0.3
    np.testing.assert_array_equal(decode_selection(encode_selection(some), 1003), some)
    assert decode_selection(encode_selection(some), 2000) is None
    assert decode_selection("", 1003) is None
    assert decode_selection("!!", 1003) is None
    # as explorer.js writes it: the bit of row r is 1 << (r & 7) of byte r >> 3
    assert encode_selection(np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 1], bool)) == "AQI"


def test_texts_that_are_no_pair_are_shown_each_by_itself(runs):
    explored = Explored(runs / "whole")
    values = control_values(PAGES["/prompt"].controls(explored, {})) | {
        "clean": "run 3 =",
        "corrupted": "run 3 =",
        "roles": "",
    }
    shown = PAGES["/prompt"].content(Asked(explored, values))
    assert "Both texts have the answer" in str(shown[0])
    found = figures_of(shown)
    assert list(found) == ["figure-clean", "figure-corrupted"]
    for figure, code in found.values():
        scope: dict = {}
        exec(code, scope)
        assert scope["figure"].to_json() == figure.to_json()


def test_roles_are_texts_or_characters():
    typed = Typed("base", "f(3) =", "f(5) =", "input = 3 | 5\nname = [0, 1]\n\n", "")
    assert typed.places() == {"input": ["3", "5"], "name": [[0, 1], [0, 1]]}
    for roles, said in (("input = 3\ninput = 5", "has two lines"), ("input", "cannot be read"), ("a = 1|2|3", "read")):
        with pytest.raises(pbb.PbbError, match=said):
            typed._replace(roles=roles).places()
    assert typed._replace(answers=" 7 | two ").both_answers() == ("7", "two")
    with pytest.raises(pbb.PbbError, match="both answers"):
        typed._replace(answers="7").both_answers()


def test_labels_are_matched_whole_with_commas_in_them():
    labels = pd.DataFrame({"call": ["1, 2", "1", "1, 2"], "state_1": [3.0, 3.0, np.nan], "group": ["a", "b", "b"]})
    assert matching(labels, "call = 1, 2").tolist() == [True, False, True]
    assert matching(labels, "call = 1, 2, state_1 = 3,").tolist() == [True, False, False]
    for wanted, said in (
        ("group", "write label = value"),
        ("__class__ = 1", "write label"),
        ("group = c", "No prompt"),
    ):
        with pytest.raises(pbb.PbbError, match=said):
            matching(labels, wanted)


def test_damaged_settings_corpus_and_tables_are_named(runs, tmp_path):
    def damaged(name: str, text: str) -> Explored:
        copy = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(runs / "whole", copy)
        (copy / name).write_text(text)
        return Explored(copy)

    with pytest.raises(pbb.PbbError, match=r"config\.json was changed since the study wrote it"):
        damaged("config.json", '{"base": "nano"}')
    for name, read in (
        ("corpus/corpus.jsonl", lambda explored: explored.run.corpus),
        ("probing/probes.nc", lambda explored: explored.run.array("probing/probes")),
        ("stage2/model/config.json", lambda explored: explored.run.model()),
    ):
        with pytest.raises(pbb.PbbError, match=rf"not as its step wrote it: {name} .*Run it again"):
            read(damaged(name, "{}"))
    assert damaged("probing/step.json", "[]").run.steps["probing"] is False


def test_what_is_read_is_what_the_step_holds_now(runs, tmp_path):
    shutil.copytree(runs / "whole", tmp_path / "run")
    explored = Explored(tmp_path / "run")
    before = explored.run.table("behaviour/behaviour")
    before.assign(n=0).to_csv(tmp_path / "run" / "behaviour" / "behaviour.csv", index=False)
    seal(tmp_path / "run")
    assert set(explored.run.table("behaviour/behaviour")["n"]) == {0}


def test_the_finetuned_model_is_opened_once_under_either_name(runs):
    explored = Explored(runs / "whole")
    assert explored.run.model() is explored.run.model("finetuned")


@pytest.mark.parametrize("host", ["example.invalid", "a" * 70, "2001:db8::1", "[::1]", "999.1.1.1"])
def test_an_address_that_cannot_be_served_is_refused(runs, host):
    with pytest.raises(pbb.PbbError, match="cannot be served"):
        make_server(Explored(runs / "whole"), host, 0)
