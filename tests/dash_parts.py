"""What is in a view of the explorer, without a browser."""

from typing import Any


def parts_of(tree: list) -> list:
    """Dash components and all that is in them."""
    found = list(tree)
    for part in found:  # grows on the way
        below = getattr(part, "children", None)
        found += below if isinstance(below, list) else [below] if hasattr(below, "_prop_names") else []
    return found


def control_values(controls: list) -> dict[str, Any]:
    """The values of the controls by name."""
    return {
        name: part.value
        for part in parts_of(controls)
        if isinstance(getattr(part, "id", None), dict)
        for name in part.id.values()
    }


def figures_of(parts: list) -> dict[str, tuple[Any, str]]:
    """Each figure with its Python."""
    by_id = {part.id: part for part in parts_of(parts) if isinstance(getattr(part, "id", None), str)}
    return {
        name: (part.figure, by_id[f"{name}-code"].children) for name, part in by_id.items() if hasattr(part, "figure")
    }
