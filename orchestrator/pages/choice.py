"""Which images of a list a page shows: images of all classes, and those with the lowest and the highest scores."""

from bisect import insort
from collections import Counter
from collections.abc import Collection, Mapping

from imagesets.item import Item
from imagesets.item_list import ItemList
from orchestrator.storage.store import digest


def choose(items: ItemList, count: int, scored: Mapping[str, float]) -> list[Item]:
    """Up to `count` items: a third have the lowest `scored` values, a third the highest, and the rest show the classes evenly."""
    ranked = sorted((value, id) for id, value in scored.items())
    third = count // 3 if len(items) > count and len(ranked) > count else 0
    extremes = {id for _, id in [*ranked[:third], *ranked[len(ranked) - third :]]}
    places = [place for place, id in enumerate(items.names()) if id in extremes]
    return [*spread(items, count - len(places), without=extremes), *(items[place] for place in places)]


def spread(items: ItemList, count: int, without: Collection[str] = ()) -> list[Item]:
    """Up to `count` items that show the classes as evenly as possible; the order of `items` does not matter."""
    first: dict[tuple[int, ...], list[tuple[str, int]]] = {}  # of each set of labels; more than `count` are never needed
    for place, (id, labels) in enumerate(items.labelled()):
        if id in without:
            continue
        alike = first.setdefault(labels, [])
        insort(alike, (digest(id.encode()), place))  # neighbours in a list are often near copies
        del alike[count:]
    left = sorted((*mark, labels) for labels, alike in first.items() for mark in alike)
    shown: Counter[int] = Counter()
    chosen: list[Item] = []
    while left and len(chosen) < count:
        mark = min(left, key=lambda mark: min((shown[index] for index in mark[2]), default=len(items)))
        left.remove(mark)
        shown.update(mark[2])
        chosen.append(items[mark[1]])
    return chosen
