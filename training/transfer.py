"""From the host to the device: a batch, whose images are normalised there. As RGBA uint8 they are a third of the size."""

import torch

from imagesets.normalising import normalised

Batch = dict[str, torch.Tensor]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`. Entries named "image..." that are RGBA uint8 [B,4,H,W] become normalised float32 [B,3,H,W]."""
    moved = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
    return {name: _normalised(values) if _is_rgba(name, values) else values for name, values in moved.items()}


def _is_rgba(name: str, values: torch.Tensor) -> bool:
    return name.startswith("image") and values.dtype is torch.uint8 and values.ndim == 4 and values.shape[1] == 4


def _normalised(rgba: torch.Tensor) -> torch.Tensor:
    """Crops of `imagesets.crops.Crop.image`, normalised; 0, the mean colour, where they are transparent."""
    return normalised(rgba[:, :3].movedim(1, -1)).masked_fill_(rgba[:, 3:] == 0, 0)
