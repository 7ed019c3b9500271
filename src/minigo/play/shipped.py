"""Which of the networks that ship plays which board, and what a network has learned."""

from ..checkpoint import list_shipped


def choose_network(size: int, human: bool) -> str:
    """Return the shipped network to ask about games of a size; those of 9x9 play every size."""
    names = [f"{size}x{size}-human", "9x9-human"]
    if not human:
        names = [f"{size}x{size}", *names[:1], "9x9"]
    shipped = list_shipped()
    return next((name for name in names if name in shipped), names[-1])


def trained_sizes(info: dict) -> list[int]:
    """Return the board sizes that a checkpoint's `info` says it learned on; none if it doesn't."""
    sizes, recipe = info.get("size"), info.get("recipe")
    if recipe:
        return [*range(recipe.get("min_size") or recipe["size"], recipe["size"] + 1)]
    return [sizes] if isinstance(sizes, int) else sizes or []


def knows_ownership(info: dict, size: int) -> bool:
    """Tell whether a network has learned who owns what on a board; people's games don't say."""
    return info.get("made_by") != "imitation" and size in (trained_sizes(info) or [size])
