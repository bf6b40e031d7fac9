"""The application: the frame of every page, the way from an address to its view and back, and the server.

A page is a module with a PATH, a TITLE, `controls(explored, query)` and `content(asked)`. Its controls' values are what
stands in the address, so that a link reproduces the view; `content` is a function of them and nothing else.
"""

import contextlib
import socket
import threading
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.views.explorer import activations, attention, compare, layers, overview, own_prompt, program
from pbb_probe.views.explorer.address import read_query
from pbb_probe.views.explorer.cards import Asked, answered, notice
from pbb_probe.views.explorer.controls import in_browser, values_by_name
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.gate import guard, is_loopback

if TYPE_CHECKING:
    from dash import Dash
    from werkzeug.serving import BaseWSGIServer

PAGES = {page.PATH: page for page in (overview, layers, program, activations, attention, compare, own_prompt)}


def make_app(explored: Explored, host: str = "127.0.0.1") -> "Dash":
    """The application over one run, to be served by any WSGI server as `.server`.

    Args:
        explored: the run.
        host: the address it will be served at. At a loopback address only requests that name one are answered, so
            that no page of another site can reach it under a name of its own.
    """
    from dash import ALL, Dash, Input, Output, State, ctx, dcc, html
    from dash.exceptions import PreventUpdate

    app = Dash(
        "pbb_probe",
        title=f"pbb_probe: {explored.title}",
        update_title="",
        assets_folder=str(files("pbb_probe") / "views" / "explorer" / "assets"),
        suppress_callback_exceptions=True,
        serve_locally=True,
    )
    links = [dcc.Link(page.TITLE, href=path, id={"link": path}, className="link") for path, page in PAGES.items()]
    app.layout = html.Div(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Store(id="theme"),
            html.A("Skip to the view", href="#view", className="skip"),
            html.Header(
                [
                    html.Div([html.B("pbb_probe"), html.Span(explored.title, title=str(explored.run.path))]),
                    html.Nav(links),
                    html.Button("Light or dark", id="switch", className="tool"),
                ]
            ),
            html.Main(id="view", tabIndex="-1"),
            html.Div(id="said", role="status"),  # read out by screen readers
        ]
    )

    @app.callback(
        Output("view", "children"),
        Output({"link": ALL}, "className"),
        Input("address", "pathname"),
        State("address", "search"),
    )
    def show(path: str, search: str) -> tuple[list[Any], list[str]]:
        marks = ["link here" if link["id"]["link"] == path else "link" for link in ctx.outputs_list[1]]
        page = PAGES.get(path)
        if page is None:
            return [notice("There is no such page: choose one above.")], marks
        controls = answered(lambda: page.controls(explored, read_query(search)))
        if any("notice" in str(getattr(part, "className", "")) for part in controls):
            return [html.H1(page.TITLE), *controls], marks  # without them there is nothing that the view could be of
        dimmed = {"visibility": "visible", "opacity": 0.5}
        content = dcc.Loading(html.Div(id="content"), delay_show=250, overlay_style=dimmed)
        return [html.H1(page.TITLE), html.Form(controls, className="controls"), content], marks

    @app.callback(
        Output("content", "children"),
        Input({"control": ALL}, "value"),
        Input("theme", "data"),
        State({"quiet": ALL}, "value"),
        State("address", "pathname"),
    )
    def fill(_values: Any, theme: str | None, _quiet: Any, path: str) -> list[Any]:
        if theme is None or path not in PAGES:  # the theme is known as soon as the page's script has run
            raise PreventUpdate
        page = PAGES[path]
        return answered(lambda: page.content(Asked.of(explored, page.controls, values_by_name(ctx), theme == "dark")))

    values = [Input({kind: ALL}, "value") for kind in ("control", "quiet")]
    ids = [State({kind: ALL}, "id") for kind in ("control", "quiet", "link")]
    in_browser(app, "address", Output({"link": ALL}, "href"), *values, *ids, initially=True)
    in_browser(app, "theme", Output("theme", "data"), Input("switch", "n_clicks"), initially=True)
    for page in PAGES.values():
        if hasattr(page, "connect"):
            page.connect(app, explored)
    guard(app, host, PAGES)
    _serve_tables(app, explored)
    return app


def make_server(explored: Explored, host: str = "127.0.0.1", port: int = 8050) -> "BaseWSGIServer":
    """A server of the application; its `server_port` is the one it has.

    Raises:
        PbbError: the port cannot be had.
    """
    from werkzeug.serving import make_server

    from pbb_probe.views.explorer.handler import Handler

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except (OSError, ValueError) as error:  # of a name that can be none
            raise PbbError(f"{host}:{port} cannot be served ({error}): give another --port or --host.") from error
        port = tried.getsockname()[1]

    return make_server(host, port, make_app(explored, host).server, threaded=True, request_handler=Handler)


def serve(path: str | Path, host: str = "127.0.0.1", port: int = 8050) -> None:
    """Serve a run until interrupted.

    Raises:
        PbbError: there is no run, or the port cannot be had.
    """
    explored = Explored(path)
    server = make_server(explored, host, port)
    threading.Thread(target=explored.warm_up, daemon=True).start()
    shown = f"[{host}]" if ":" in host else host
    print(f"{explored.run.path}: http://{shown}:{server.server_port} (Ctrl+C ends it)", flush=True)
    if not is_loopback(host):
        print("Whoever reaches this address can read the run and use its model.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # which is how it is ended
        server.serve_forever()


def _serve_tables(app: "Dash", explored: Explored) -> None:
    """The tables of figures that were drawn, to be downloaded."""
    from flask import Response, abort

    def csv(name: str) -> Response:
        table = explored.kept(name)
        if table is None:
            abort(404, "This table is no longer kept: draw its view again.")
        return Response(table.to_csv(index=False), mimetype="text/csv")

    app.server.add_url_rule("/csv/<name>", view_func=csv)
