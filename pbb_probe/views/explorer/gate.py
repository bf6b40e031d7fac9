"""Which requests are answered: those that the explorer's own pages make, of a size and shape that these have.

Everything else gets a 4xx and one sentence before anything of the run is touched, and leaves no trace in the terminal:
what stands there is a defect of ours.
"""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dash import Dash
    from werkzeug.datastructures import Headers

MOST_BYTES = 2**18
"""Of a request's body."""
MOST_ADDRESS = 60_000
"""Characters of an address, in which the controls stand percent-encoded. Python's server reads 65,536."""
MOST_PARTS = 100
"""Controls or links of a page that a request names together."""
DEEPEST = 8
"""Lists and objects within each other in a request's body."""
NUMBERS: tuple[Any, ...] = ({"quiet": "layer"}, "n-prompts")
"""Parts of pages that hold a whole number; the others hold text."""
CALLBACKS = "/_dash-update-component"
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\s:\[\]/@]+)(?P<port>:\d{1,5})?", re.IGNORECASE | re.ASCII)
_SENTENCES = {
    400: "This request cannot be read.",
    404: "There is nothing at this address: open / and choose a view.",
    405: "This address cannot be asked by this method.",
    411: "The length of the request is not known: send its Content-Length.",
    413: f"The request is too long: send at most {MOST_BYTES:,} bytes.",
    415: "A callback is asked in JSON: send it as application/json.",
}


_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def guard(app: "Dash", host: str, pages: Mapping[str, Any]) -> None:
    """Refuse what is not for this application, and forbid its pages to load anything from elsewhere.

    Args:
        app: with all of its callbacks.
        host: the address it is served at.
        pages: by path.
    """
    from dash.exceptions import DependencyException
    from flask import Response, abort, request
    from werkzeug.exceptions import HTTPException, NotFound

    server, policy = app.server, _policy(app)
    server.config["MAX_CONTENT_LENGTH"] = MOST_BYTES

    def only_what_is_expected() -> None:
        asked = _authority(request.headers.get("Host", ""))
        if asked is None:
            abort(400, "The Host of this request cannot be read.")
        if is_loopback(host) and not is_loopback(asked[0]):
            abort(403, "This explorer answers at a loopback address only.")
        if request.method not in ("GET", "HEAD", "OPTIONS") and not _from_own_page(request.headers, asked, host):
            abort(403, "This request comes from a page of another site: only the explorer's own pages are answered.")
        if len(request.path) + len(request.query_string) > MOST_ADDRESS:
            abort(414, f"The address is too long: it may have {MOST_ADDRESS:,} characters.")
        if not request.query_string.isascii():
            abort(400, "The address cannot be read: what is not ASCII must be percent-encoded.")
        endpoint = request.url_rule.rule if request.url_rule else ""
        if endpoint == "/<path:path>" and request.path not in pages:
            abort(404)
        if endpoint == CALLBACKS and request.method == "POST":
            if not request.is_json:
                abort(415)
            if request.content_length is None:  # of chunks nobody knows how many follow
                abort(411)
            try:
                _check_callback(app, _parsed(request.get_data()))
            except _Malformed as reason:
                abort(400, f"This is no request of the explorer's pages: {reason}.")

    def nothing_from_elsewhere(response: Response) -> Response:
        response.headers.update({"Content-Security-Policy": policy, **_HEADERS})
        return response

    def in_a_sentence(error: HTTPException) -> Response | HTTPException:
        if error.code is None or not 400 <= error.code < 500:
            return error
        usual = error.description == type(error).description
        said = _SENTENCES.get(error.code, error.name + ".") if usual else error.description
        response = Response(f"{said}\n", error.code, mimetype="text/plain")
        if allowed := getattr(error, "valid_methods", None):
            response.headers["Allow"] = ", ".join(allowed)
        return response

    server.before_request(only_what_is_expected)
    server.after_request(nothing_from_elsewhere)
    server.register_error_handler(HTTPException, in_a_sentence)
    # of a script that no package of Dash has
    server.register_error_handler(DependencyException, lambda _: in_a_sentence(NotFound()))


def is_loopback(name: str) -> bool:
    """Is it a name or an address by which a machine reaches itself?"""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _policy(app: "Dash") -> str:
    """The scripts that Dash writes into its page are named by their hashes; plotly's WebGL compiles its own."""
    scripts = " ".join(app.csp_hashes())
    return (
        f"default-src 'self'; script-src 'self' 'unsafe-eval' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _authority(text: str) -> tuple[str, str] | None:
    """Name and port of `name:port`, one way of writing each; None where it is not written so."""
    parts = _HOST.fullmatch(text)
    if parts is None:
        return None
    name = parts["name"].lower().removesuffix(".").strip("[]")
    return (name, (parts["port"] or ":80")[1:]) if name else None


def _from_own_page(headers: "Headers", asked: tuple[str, str], host: str) -> bool:
    """Does a request that a page of another site could send come from one of the explorer's, or from no page at all?

    Browsers name the page's origin in each such request. Programs need not, and are answered at a loopback address.
    """
    if headers.get("Sec-Fetch-Site", "same-origin").lower() not in ("same-origin", "none"):
        return False
    origin = headers.get("Origin")
    if origin is None:
        return is_loopback(host)
    scheme, separator, authority = origin.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return False
    return _authority(authority) == asked


# The body of a callback


class _Malformed(Exception):  # noqa: N818
    """What is wrong with a body, as the end of a sentence."""


def _parsed(data: bytes) -> Any:
    """The JSON of a body, nowhere too deep, its text all characters and its numbers all finite."""
    try:
        body = json.loads(data)
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()  # which half of a surrogate pair cannot be
        if _depth(body) > DEEPEST:
            raise ValueError("too deep")
        return body
    except (ValueError, RecursionError) as error:  # of which UnicodeError is one
        raise _Malformed("its body is no JSON, or goes too deep") from error


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0)


def _check_callback(app: "Dash", body: Any) -> None:
    """Refuse a body that does not name a callback, all of its inputs and outputs, and values that these can have."""
    if not isinstance(body, dict):
        raise _Malformed("its body is no JSON object")
    output = body.get("output")
    callback = app.callback_map.get(output) if isinstance(output, str) else None
    if callback is None or "callback" not in callback:
        raise _Malformed("there is no such output")
    made = callback["output"]
    outputs = [
        (each.component_id_str(), each.component_property) for each in (made if isinstance(made, list) else [made])
    ]
    given = body.get("outputs")
    _check_parts("outputs", given if isinstance(made, list) else [given], outputs)
    for name in ("inputs", "state"):
        _check_parts(name, body.get(name, []), [(each["id"], each["property"]) for each in callback[name]])
    changed = body.get("changedPropIds", [])
    if not isinstance(changed, list) or not all(isinstance(name, str) and "." in name for name in changed):
        raise _Malformed("its changedPropIds are no list of names")


def _check_parts(name: str, given: Any, wanted: list[tuple[str, str]]) -> None:
    """Refuse parts of a page that are not the ones a callback is of, in their order."""
    if not isinstance(given, list) or len(given) != len(wanted):
        raise _Malformed(f"its {name} are not the {len(wanted)} that this callback has")
    for part, (key, attribute) in zip(given, wanted, strict=True):
        for each, id_ in _each(name, part, key):
            known = isinstance(each, dict) and each.get("id") == id_ and isinstance(each.get("property"), str)
            if not known or each["property"].partition("@")[0] != attribute:
                raise _Malformed(f"{key}.{attribute} is not where it belongs in its {name}")
            _check_value(id_, each.get("value"))


def _each(name: str, part: Any, key: str) -> Iterator[tuple[Any, Any]]:
    """Every component that a part names, with the id it must have: all of a kind share the kind of their id."""
    id_ = json.loads(key) if key.startswith("{") else key
    if not isinstance(id_, dict) or ["ALL"] not in id_.values():
        yield part, id_
        return
    ((kind, _),) = id_.items()
    if not isinstance(part, list) or len(part) > MOST_PARTS:
        raise _Malformed(f"{key} in its {name} is no list of at most {MOST_PARTS} components")
    names = []
    for each in part:
        its_own = each.get("id") if isinstance(each, dict) else None
        if not isinstance(its_own, dict) or list(its_own) != [kind] or not isinstance(its_own[kind], str):
            raise _Malformed(f"{key} in its {name} has a component of another kind")
        names.append(its_own[kind])
        yield each, its_own
    if len(set(names)) < len(names):
        raise _Malformed(f"{key} in its {name} has a component twice")


def _check_value(id_: Any, value: Any) -> None:
    """Refuse what no part of a page has."""
    if value is None or isinstance(value, str):
        return
    if id_ not in NUMBERS or type(value) is not int or abs(value) >= 2**53:
        raise _Malformed(f"the value of {json.dumps(id_)} is none that it can have")
