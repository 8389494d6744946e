"""What is legal in an image set but looks like a mistake."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from imagesets.errors import named
from imagesets.image_set import ImageSet

Classes = tuple[int, ...] | None  # classes of an image by its labels or its mask; None if they could not be read


class Suspicions:
    """Looks at the images of some lists one by one, and then tells what is suspicious about the lists."""

    def __init__(self, image_set: ImageSet, ids: Mapping[str, Sequence[str]], learnt: Collection[str]):
        self.image_set, self.learnt = image_set, learnt
        self.members = {name: frozenset(members) for name, members in ids.items()}
        self.shown = {name: Counter[int]() for name in ids}  # images by class
        self.read = dict.fromkeys(ids, 0)  # images whose labels could be read
        self.masks = 0
        self.contradictions: list[tuple[str, Sequence[int], Sequence[int]]] = []

    def see(self, id: str, labels: Classes, mask: Classes) -> None:
        """Look at one image."""
        for name in (name for name, members in self.members.items() if id in members):
            self.shown[name].update(labels or ())
            self.read[name] += labels is not None
        if labels is not None and mask is not None:
            self.masks += 1
            if set(labels) != set(mask):
                self.contradictions.append((id, labels, mask))

    def unlearnable(self, labelled: Collection[str]) -> list[str]:
        """A sentence for each of the lists `labelled` of which no image shows a class."""
        source = f"(labels from {self.image_set.label_source})"
        return [
            f"no image of list {name} shows any class {source}; there is nothing to learn from it"
            for name, count in self.read.items()
            if name in labelled and count and not self.shown[name]
        ]

    def told(self) -> list[str]:
        """A sentence for each suspicious finding."""
        return [*self._classes(), *self._contradictions()]

    def _classes(self) -> list[str]:
        found = []
        for name, shown in self.shown.items():
            if not self.members[name]:
                continue  # an empty list is an error by itself
            source = f"(labels from {self.image_set.label_source})"
            absent = [label for index, label in enumerate(self.image_set.classes) if not shown[index]]
            everywhere = [label for index, label in enumerate(self.image_set.classes) if shown[index] == len(self.members[name])]
            if absent:
                found.append(f"no image of list {name} shows {named(absent)} {source}")
            elif everywhere and name in self.learnt:
                found.append(
                    f"every image of list {name} shows {named(everywhere)} {source}; a class needs images without it, "
                    "such as images that show no class: they have a line with their id alone"
                )
        return found

    def _contradictions(self) -> list[str]:
        if not self.contradictions:
            return []
        id, labels, mask = self.contradictions[0]
        told = f"such as {id} (labels {self._named(labels)}; mask {self._named(mask)})"
        return [
            f"{len(self.contradictions)} of {self.masks} masks show other classes than the labels of their images, {told}; "
            "the value of a pixel must be the place of its class among the classes, from 1, 0 for background and 255 for void"
        ]

    def _named(self, classes: Sequence[int]) -> str:
        return " and ".join(self.image_set.classes[index] for index in classes) or "none"
