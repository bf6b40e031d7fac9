"""What is no request of the explorer's own pages is refused in a sentence, and leaves nothing in the terminal."""

import copy
import json
import random

import pytest
from callbacks import CALLBACKS, bodies

from pbb_probe.views.explorer.app import PAGES, make_app
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.gate import MOST_ADDRESS, MOST_BYTES

WILD = (
    *(None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), [], {}, [[None]], {"id": 5}),
    *("", "\x00", "\ud800", "9" * 5000, "²", "٣", "1e999", "<script>", "[" * 300, "1]+[2", "'\\ud800'", "= = |"),
    *("?" + "a&" * 200, "a" * 1001, "%ff", "z", "3", "base", "without_io", "selection", "lda"),
)


@pytest.fixture(scope="module")
def explored(runs):
    return Explored(runs / "whole")


@pytest.fixture(scope="module")
def app(explored):
    made = make_app(explored)
    made.server.test_client().get("/")  # after which Dash knows its callbacks
    return made


@pytest.fixture(scope="module")
def asked(app, explored):
    return bodies(app, explored)


def refused(response, *codes: int) -> str:
    """What a refusal says, which is one sentence of plain text."""
    assert response.status_code in (codes or range(400, 500)), (response.status_code, response.data[:300])
    assert response.mimetype == "text/plain"
    said = response.get_data(as_text=True)
    assert said.endswith(".\n")
    assert said.count("\n") == 1
    return said


def test_the_requests_of_its_pages_are_answered(app, asked):
    for name, body in asked.items():
        response = app.server.test_client().post(CALLBACKS, json=body)
        assert response.status_code == 200, name
        assert "notice missing" not in response.text, name


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "localhost:9999", "127.0.0.1:80", "[::1]", "[::1]:8050"])
def test_a_host_of_this_machine_is_answered(app, host):
    assert app.server.test_client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("", ":80", "[::1", "::1", "[::1]:80:80", "[]", "localhost@example.org", "localhost/x", "a b", "localhost:x"),
        *("example.org", "example.org:80", "localhost.example.org", "127.0.0.1.example.org", "0.0.0.0", "192.168.0.1"),
    ],
)
def test_another_host_is_refused(app, host):
    refused(app.server.test_client().get("/", headers={"Host": host}), 400, 403)


ELSEWHERE = [
    {"Origin": "http://example.org"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:9999"},
    {"Origin": "http://localhost.example.org"},
    {"Origin": "file://localhost"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_page_from_elsewhere_cannot_ask(explored, asked, headers, host):
    client = make_app(explored, host).server.test_client()
    assert "another site" in refused(client.post(CALLBACKS, json=asked["wanted"], headers=headers), 403)


def test_its_own_pages_can_ask_and_programs_of_this_machine(explored, app, asked):
    client = app.server.test_client()
    for host, origin in (("localhost", None), ("localhost", "http://localhost"), ("[::1]:8050", "http://[::1]:8050")):
        headers = {"Host": host} | ({"Origin": origin, "Sec-Fetch-Site": "same-origin"} if origin else {})
        assert client.post(CALLBACKS, json=asked["wanted"], headers=headers).status_code == 200
    public = make_app(explored, "0.0.0.0").server.test_client()
    own = {"Host": "lab.example.org:8050", "Origin": "http://lab.example.org:8050"}
    public.get("/", headers={"Host": own["Host"]})
    assert public.post(CALLBACKS, json=asked["wanted"], headers=own).status_code == 200
    refused(public.post(CALLBACKS, json=asked["wanted"], headers={"Host": own["Host"]}), 403)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/nothing", 404),
        ("/layers/", 404),
        ("/csv/nothing", 404),
        ("/csv/%00", 404),
        ("/csv/..%2f..%2fconfig.json", 404),
        ("/assets/..%2f..%2fapp.py", 404),
        ("/assets/%00", 404),
        ("/%ff%fe", 404),
        ("/_dash-component-suites/os/path.py", 404),
        ("/_dash-component-suites/dash/../../app.py", 404),
        ("/_dash-component-suites/dash/dcc/nothing.js", 404),
        (CALLBACKS, 404),
        ("/?" + "a" * MOST_ADDRESS, 414),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_address_that_is_none_is_refused(app, capfd, path, code):
    refused(app.server.test_client().get(path), code)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "NONE"])
@pytest.mark.parametrize("path", ["/", CALLBACKS, "/csv/x", "/assets/explorer.js"])
def test_other_methods_are_refused(app, method, path):
    refused(app.server.test_client().open(path, method=method), 405)


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        (b"", "application/json", 411),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"5", "application/json", 400),
        (b"NaN", "application/json", 400),
        (b"9" * 5000, "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 990 + b"1" + b"}" * 990, "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"output": "config.json"}', "application/json", 400),
        (b'{"output": ["content.children"]}', "application/json", 400),
        (b'{"output": "theme.data"}', "application/json", 400),  # which the browser makes by itself
        (b"{}", "text/plain", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "", 415),
        (b" " * (MOST_BYTES + 1), "application/json", 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_is_none_is_refused(app, capfd, data, kind, code):
    refused(app.server.test_client().post(CALLBACKS, data=data, content_type=kind), code)
    assert capfd.readouterr() == ("", "")


def test_security_headers_forbid_scripts_from_elsewhere_and_frames(app):
    headers = app.server.test_client().get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")


def _nodes(value, path=()):
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _nodes(part, (*path, key))


def _mutated(body: dict, rng: random.Random) -> bytes:
    """A request with other values, with parts that are gone, moved or of another kind, or cut short."""
    body, kind = copy.deepcopy(body), rng.random()
    if kind < 0.5:
        groups = [*body["inputs"], *body["state"]]
        entries = [entry for group in groups for entry in (group if isinstance(group, list) else [group])]
        for entry in rng.sample(entries, rng.randint(1, 2) if len(entries) > 1 else 1):
            entry["value"] = rng.choice(WILD)
    else:
        *way, last = rng.choice([path for path in _nodes(body) if path])
        parent = body
        for key in way:
            parent = parent[key]
        if kind < 0.75:
            parent[last] = rng.choice(WILD)
        elif kind < 0.9 or isinstance(parent, dict):
            del parent[last]
        else:
            parent.append(rng.choice(parent))
    data = json.dumps(body).encode()
    return data if kind < 0.97 else data[: rng.randrange(len(data))]


def test_hundreds_of_malformed_requests_leave_no_trace(app, asked, capfd):
    rng, client, codes = random.Random(0), app.server.test_client(), set()
    for body in asked.values():  # what they have in common is computed once
        client.post(CALLBACKS, json=body)
    capfd.readouterr()
    for i in range(500):
        data = _mutated(asked[name := rng.choice(list(asked))], rng)
        response = client.post(CALLBACKS, data=data, content_type="application/json")
        codes.add(response.status_code)
        if response.status_code >= 400:
            refused(response)
        assert "could not be made" not in response.get_data(as_text=True), (i, name, data)
    assert codes == {200, 204, 400}
    assert "Traceback" not in "".join(capfd.readouterr())


def test_all_pages_are_known_to_the_gate(app):
    for path in PAGES:
        assert app.server.test_client().get(path).status_code == 200
