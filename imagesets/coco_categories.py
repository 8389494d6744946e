"""The 80 categories of MS COCO: their names in the order of their ids (1 to 90, without ten that COCO dropped)."""

from collections.abc import Sequence

NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
IDS = tuple(number for number in range(1, 91) if number not in UNUSED)


def category_ids(classes: Sequence[str]) -> tuple[int, ...]:
    """COCO's id of each class, by its name; 80 classes with other names (motorbike, sofa) go by their place.

    If the classes are not COCO's, the id is the place of the class, from 1.
    """
    if set(classes) <= set(NAMES):
        return tuple(IDS[NAMES.index(name)] for name in classes)
    return IDS if len(classes) == len(IDS) else tuple(range(1, len(classes) + 1))
