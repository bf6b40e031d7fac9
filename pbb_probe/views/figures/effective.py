"""Effective programs: how the program that a model's answers fit best differs from the one that was asked for."""

from itertools import product
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.panels import distinct, interval, require
from pbb_probe.views.figures.style import finish, plain
from pbb_probe.views.pairs import in_order
from pbb_probe.views.words import titles as titles_of
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too
_COLOURS = {
    "none": "#009E73",
    "a constant": "#56B4E9",
    "an operation": "#0072B2",
    "a step left out": "#E69F00",
    "the order": "#D55E00",
    "another program": "#CC79A7",
    "unclear": "#D9D9D9",
}
_RECALLED = {
    "recalled and computed": "#009E73",
    "recalled and computed wrongly": "#D55E00",
    "recalled and not computed": "#E69F00",
    "computed and not recalled": "#56B4E9",
    "not recalled": "#D9D9D9",
}
_UNKNOWN = "#7F7F7F"


def effective(table: "pd.DataFrame", title: str | None = None) -> "Figure":
    """What the effective program differs in, as stacked shares: a bar a group and novelty, a panel a mode and steps.

    Args:
        table: from `tables.effective`: group, mode, steps and novelty where it tells them apart, `difference` (`none`
            where the model computes the program itself) or `outcome`, `share` with `lower` and `upper`, `n` programs.
        title: of the figure; its own when None.

    Raises:
        PbbError: the table lacks a column, is empty, or has several rows for one share.

    Example:
        >>> import pandas as pd
        >>> import pbb_probe as pbb
        >>> table = pd.DataFrame({"difference": ["none", "a step left out"], "share": [0.4, 0.6], "lower": 0.3})
        >>> of = {"group": "without_io", "novelty": "new_function", "steps": 2, "mode": "direct"}
        >>> table = table.assign(**of, upper=0.7, n=50)
        >>> [bar.x.tolist() for bar in pbb.figures.effective(table).data]
        [[0.4], [0.6]]
    """
    from plotly.subplots import make_subplots

    what, colours = ("outcome", _RECALLED) if "outcome" in table else ("difference", _COLOURS)
    require(table, {"group", "mode", what, "share", "lower", "upper", "n"}, "that of tables.effective")
    if table.empty:
        raise PbbError("The table has no rows: there are no effective programs to show.")
    table = table.rename(columns={what: "word"}).assign(
        novelty=table["novelty"].fillna("") if "novelty" in table else "", steps=table.get("steps", 0)
    )
    if table.duplicated(["group", "steps", "novelty", "mode", "word"]).any():
        raise PbbError("The table has several rows for one share: select one model and one kind of calls.")
    kinds = table[["group", "novelty"]].drop_duplicates().sort_values("novelty", kind="stable")
    bars = [(group, own) for group in in_order(kinds["group"]) for own in kinds.loc[kinds["group"] == group, "novelty"]]
    (modes, given), steps = distinct(table, "mode", "word"), sorted(set(table["steps"].tolist()))
    ordered = [*(word for word in colours if word in given), *(word for word in given if word not in colours)]
    figure = make_subplots(
        len(modes),
        len(steps),
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=[plain(mode) + (f", {steps_words(n)}" if n else "") for mode in modes for n in steps],
        horizontal_spacing=0.05,
        vertical_spacing=0.25 / len(modes),
    )
    for (r, mode), (c, n), word in product(enumerate(modes, 1), enumerate(steps, 1), ordered):
        here = table[(table["mode"] == mode) & (table["steps"] == n) & (table["word"] == word)]
        figure.add_bar(
            x=here["share"],
            y=[_bar_name(group, own) for group, own in zip(here["group"], here["novelty"], strict=True)],
            orientation="h",
            name=plain("none: the program itself" if word == "none" else word),
            legendgroup=plain(word),
            marker={"color": colours.get(word, _UNKNOWN), "line_width": 0},
            text=[f"{share:.0%}" if share >= 0.05 else "" for share in here["share"]],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": "white" if word == "an operation" else "black"},
            customdata=here[["lower", "upper", "n"]],
            hovertemplate=f"{interval('x', '.1%')}<br>%{{customdata[2]}} programs<extra>{plain(word)}</extra>",
            row=r,
            col=c,
        )
    figure.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%")
    names = [_bar_name(*bar) for bar in bars]
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], categoryorder="array", categoryarray=names)
    height = (44 * len(names) + 60) * len(modes) + 130
    title = title or (titles_of.EFFECTIVE if what == "difference" else titles_of.RECALLED)
    return finish(figure, title, height, {"l": 150}, barmode="stack", bargap=0.25, legend={"traceorder": "normal"})


def _bar_name(group: str, novelty: str) -> str:
    return plain(group) + (f"<br>{plain(novelty).replace('_', ' ')}" if novelty else "")
