"""What EdgePredictMix adds to a training step of RecurSeed, beside a plain form of it: CPU time, equal results.

Run from the repository root: python -m benchmarks.mixing_step   (two minutes, one thread)

Both forms have the same network with the same weights and the same partners. The plain form refines and relabels image by image,
for all classes and superpixel by superpixel, and mixes as the equations read. The step with EdgePredictMix is also told in plain
passes, forward and backward, of its own network: it needs two.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.nn import functional

from benchmarks import pamr
from benchmarks.clock import median_time
from benchmarks.recurseed_step import build, chosen, example
from benchmarks.two_forms import Batch, Stepped, apart, stepped, summed
from methods.edge_predict_mix import Learning, Predicting, mix
from methods.recurseed import RecurSeedObjective
from methods.recurseed_network import RecurSeed
from methods.recurseed_targets import Making, in_cells
from training.mixing import Mixing, of_others


def labels_of(decoded: torch.Tensor, batch: Batch) -> torch.Tensor:
    """M_ep [B,h,w], image by image, of the decoder's logits [B,1+K,h,w]."""
    size = decoded.shape[-2:]
    smaller = functional.interpolate(batch["image"], size, mode="bilinear", align_corners=False)
    found = torch.full((len(decoded), *size), 255)
    for place, (top, left, bottom, right) in enumerate(in_cells(batch["valid"], batch["image"].shape[-2:], size).tolist()):
        window = ..., slice(top, bottom), slice(left, right)
        maps = decoded[place].softmax(dim=0)[1:] * batch["labels"][place, :, None, None]
        peak, index = pamr.plain(smaller[place][window][None], maps[window][None])[0].max(dim=0)
        label = torch.where(peak > 0.55, index + 1, torch.where(peak < 0.10, 0, 255)).numpy()
        grey = (255 * peak).numpy().astype(np.uint8)
        edge = cv2.Canny(cv2.GaussianBlur(grey, (5, 5), 0), 10, 100) > 0
        own = label.copy()
        count, parts = cv2.connectedComponents((~edge).astype(np.uint8), connectivity=4)
        for part in range(1, count):
            values, counts = np.unique(label[parts == part], return_counts=True)
            own[(parts == part) & (label == 255)] = values[counts.argmax()]
        own[edge & (label == 0)] = 255
        found[place][window] = torch.from_numpy(own)
    return found


def plain_mix(batch: Batch, decoded: torch.Tensor, recursion: torch.Tensor, network: RecurSeed) -> torch.Tensor:
    """The sum of the losses of mixed images."""
    with torch.no_grad():
        labels = labels_of(decoded, batch)
    order = of_others(len(labels))
    inside = ((labels > 0) & (labels < 255)).float()[:, None]
    large = functional.interpolate(inside, batch["image"].shape[-2:])
    scores, predicted, _ = network.both(batch["image"] * large + batch["image"][order] * (1 - large))
    target = labels * inside[:, 0] + labels[order] * (1 - inside[:, 0])
    mixed = recursion * inside + recursion[order] * (1 - inside)
    present = torch.maximum(batch["labels"], batch["labels"][order])[:, :, None, None]
    cams = scores.relu() / (scores.relu().amax(dim=(2, 3), keepdim=True) + 1e-5) * present
    aim = functional.interpolate(mixed, scores.shape[-2:], mode="bilinear", align_corners=False)
    return functional.cross_entropy(predicted, target.long(), ignore_index=255) + ((cams - aim).abs() * present).mean()


def main() -> None:
    """Print a line; fails where results differ."""
    options = chosen(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, batch, making = build(options), example(options), Making()
    objective = RecurSeedObjective(network, {"seg": 0, "rec": 0}, making, "valid", ("max", "all"))
    predicting, learning = Predicting(making, True, "max", 1), Learning(network, ("seg", "rec"), ("max", "all"))
    with torch.no_grad():
        _, outputs = objective(batch, 0)
    # an untrained decoder is sure of nothing; this one is, of what the recursion says
    outputs["decoded"] = functional.pad(20 * outputs["recursion"], (0, 0, 0, 0, 1, 0), value=10)

    def ours() -> torch.Tensor:
        torch.manual_seed(1)
        return summed(mix(batch, outputs, predicting, learning))

    def theirs() -> torch.Tensor:
        torch.manual_seed(1)
        return plain_mix(batch, outputs["decoded"], outputs["recursion"], network)

    def timed(total: Callable[[], torch.Tensor]) -> tuple[Stepped, float]:
        return median_time(lambda: stepped(network, total), options.rounds)

    expected, their_time = timed(theirs)
    found, our_time = timed(ours)
    share = apart(found, expected)
    _, one_pass = timed(lambda: sum((part.mean() for part in network.both(batch["image"])[:2]), torch.zeros(())))
    _, alone = timed(lambda: summed(objective(batch, 0)[0]))
    mixing = Mixing(objective, 0, 1.0, lambda batch, outputs: mix(batch, outputs, predicting, learning))
    _, together = timed(lambda: summed(mixing(batch, 0)[0]))
    print(
        f"EdgePredictMix on {options.backbone}, B={options.batch}, {options.crop} px, one thread: plain {their_time:.2f} s -> "
        f"ours {our_time:.2f} s ({their_time / our_time:.1f}x), gradients {share:.0e} apart; a step of RecurSeed {alone:.2f} s, "
        f"with EdgePredictMix {together:.2f} s, two plain passes {2 * one_pass:.2f} s ({together / 2 / one_pass:.2f} of them)"
    )


if __name__ == "__main__":
    main()
