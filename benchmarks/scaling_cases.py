"""The networks that brmoe_scaling.py compares, each ready to train and to predict."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

import measuring
import torch
from dense_brmoe import DenseNetwork
from torch import Tensor, nn

from avalanche_care.losses import angular_penalty, perceptron_loss
from avalanche_care.nn import Adapter, BRMoEConfig, CaREModel, CosineHead, FrozenViT

IMPLEMENTATIONS = ("ours", "dense", "floor")
FLOOR_WIDTH = 64
DTYPES = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class AdapterNetwork(nn.Module):
    """A frozen ViT with one trainable adapter beside every MLP, and a cosine head."""

    def __init__(self, backbone: FrozenViT, *, scale: float = 20.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = CosineHead(backbone.embed_dim)
        self.adapters = nn.ModuleList(
            Adapter(backbone.embed_dim, FLOOR_WIDTH) for _ in range(backbone.depth)
        )
        self.scale = scale

    def expand(self, task: int, classes: range) -> None:
        """Add a task to the head; nothing else grows."""
        self.head.begin_task(task, classes)

    def features_and_logits(self, x: Tensor, *, task: int) -> tuple[Tensor, list[Tensor]]:
        """Return features (B, D) of images (B, C, H, W), and no perceptron logits."""
        return self.backbone(x, parallel=list(self.adapters)), []

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled cosines of images (B, C, H, W) to every class, (B, classes)."""
        return self.scale * self.head(self.backbone(x, parallel=list(self.adapters)))


def grown(name: str, backbone: FrozenViT, tasks: int, classes: int, device: str) -> nn.Module:
    """Return a network that was expanded to ``tasks`` tasks of ``classes`` classes each."""
    network: Any
    if name == "floor":
        network = AdapterNetwork(backbone)
    else:
        network = {"ours": CaREModel, "dense": DenseNetwork}[name](backbone, BRMoEConfig())
    network.to(device)
    for task in range(tasks):
        network.expand(task, range(task * classes, (task + 1) * classes))
        spread(p for p in network.parameters() if p.requires_grad)
    return network.to(device)


@torch.no_grad()
def spread(parameters: Iterable[nn.Parameter]) -> None:
    """Draw parameters anew: at their initial values experts return zero and routers agree."""
    for parameter in parameters:
        parameter.normal_(std=parameter.shape[1] ** -0.5 if parameter.ndim > 1 else 0.3)


class Case:
    """A network with everything that a training step and a prediction need.

    Args:
        network: with ``head``, ``features_and_logits(x, task=)`` and ``forward(x)``.
        tasks: number of tasks it was expanded to.
        images: (B, C, H, W).
        amp: autocast type by name.
    """

    def __init__(self, network: Any, tasks: int, images: Tensor, amp: str) -> None:
        self.network = network
        self.task = tasks - 1
        self.images = images
        self.dtype = DTYPES[amp]
        self.columns = network.head.columns_of(self.task)
        n_classes = self.columns.stop - self.columns.start
        self.targets = torch.arange(len(images), device=images.device) % n_classes
        trainable = [p for p in network.parameters() if p.requires_grad]
        # Steps of no size: the network stays as it is however often it is timed.
        self.optimizer = torch.optim.SGD(trainable, lr=1e-9, momentum=0.9, weight_decay=5e-4)
        half = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(images.device.type, enabled=half)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.images.device.type, self.dtype, enabled=self.dtype is not None)

    def forward(self) -> Tensor:
        """Return the loss of a training step."""
        self.network.train()
        with self.autocast():
            features, logits = self.network.features_and_logits(self.images, task=self.task)
        cosines = self.network.head(features.float())[:, self.columns]
        loss = angular_penalty(cosines, self.targets)
        if logits:
            loss = loss + perceptron_loss([z.float() for z in logits], cosines, self.targets)
        return loss

    def backward(self, loss: Tensor) -> None:
        """Finish the training step."""
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def train(self) -> None:
        """Take a whole training step."""
        self.backward(self.forward())

    @torch.no_grad()
    def infer(self) -> None:
        """Predict."""
        self.network.eval()
        with self.autocast():
            self.network(self.images)

    def memory(self, mode: str) -> dict[str, int | str]:
        """Return peak_bytes and saved_bytes of a call that is not the first."""
        gc.collect()  # what an earlier call left behind must not be freed in this one
        with measuring.memory_counter(str(self.images.device)) as memory:
            if mode == "infer":
                self.infer()
                return {"peak_bytes": memory.peak, "saved_bytes": ""}
            loss = self.forward()
            saved = memory.live
            self.backward(loss)
        return {"peak_bytes": memory.peak, "saved_bytes": saved}

    def model_bytes(self) -> int:
        """Return the size of all parameters and buffers but the ViT's."""
        own = (v for k, v in self.network.state_dict().items() if not k.startswith("backbone."))
        return sum(tensor.nbytes for tensor in own)
