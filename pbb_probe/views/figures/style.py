"""What all figures share: colours, fonts and margins."""

# Okabe and Ito's palette, told apart by colour-blind readers too
GROUP_COLOURS = {"with_io": "#0072B2", "without_io": "#D55E00"}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LAYOUT = {"template": "plotly_white", "font": {"size": 13}, "margin": {"l": 70, "r": 20, "t": 70, "b": 60}}
