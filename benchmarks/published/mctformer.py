"""MCTformer: a step of its network."""

import torch
from torch import nn
from torch.nn import functional

from backbones.vision_models import timm_network
from benchmarks.published.bench import CLASSES, Bench
from benchmarks.published.rounds import Stage
from benchmarks.published.steps import Batch, step_stage
from training.stage import Training


class Transformer(nn.Module):
    """DeiT-S with a class token per class. It keeps the attention of every block, as the public code does in training too."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        whole = timm_network("vit_small_patch16_224", num_classes=0)
        self.patch, self.block, self.norm = whole.patch_embed.proj, whole.blocks, whole.norm
        self.class_tokens, self.class_positions = (nn.Parameter(torch.zeros(1, classes, 384)) for _ in range(2))
        self.positions = nn.Parameter(torch.zeros(1, 384, 14, 14))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        patches = self.patch(images)
        patches = patches + functional.interpolate(self.positions, patches.shape[2:], mode="bicubic", align_corners=False)
        classes = (self.class_tokens + self.class_positions).expand(len(images), -1, -1)
        tokens, attentions = torch.cat([classes, patches.flatten(2).transpose(1, 2)], dim=1), []
        for block in self.block:
            own = block.attn
            parts = own.qkv(block.norm1(tokens)).reshape(*tokens.shape[:2], 3, own.num_heads, own.head_dim)
            queries, keys, values = parts.permute(2, 0, 3, 1, 4)
            attentions.append(((queries @ keys.transpose(-2, -1)) * own.scale).softmax(dim=-1))
            tokens = tokens + own.proj((attentions[-1] @ values).transpose(1, 2).reshape(tokens.shape))
            tokens = tokens + block.mlp(block.norm2(tokens))
        return tokens, attentions


class MCTformer(nn.Module):
    """Class-token logits and patch logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.backbone = classes, Transformer(classes)
        self.head = nn.Conv2d(384, classes, 3, padding=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, _ = self.backbone(images)
        rows, columns = (side // 16 for side in images.shape[2:])
        patches = tokens[:, self.classes :].transpose(1, 2).reshape(len(images), -1, rows, columns)
        return tokens[:, : self.classes].mean(-1), functional.adaptive_avg_pool2d(self.head(patches), 1).flatten(1)


def step(bench: Bench) -> Stage:
    """An update of the transformer and the patch head, without drop-path."""

    def prepared(ours: Training) -> tuple:
        network = MCTformer(len(CLASSES))
        network.load_state_dict(ours.network.state_dict())
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=0.05)

        def losses(batch: Batch) -> list[torch.Tensor]:
            return [
                torch.stack(
                    [functional.multilabel_soft_margin_loss(logits, batch["labels"]) for logits in network(batch["image"])]
                ).sum()
            ]

        return network, optimiser, losses

    return step_stage(bench, "mctformer-network", prepared)
