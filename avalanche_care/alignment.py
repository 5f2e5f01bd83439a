"""Training a classifier head on samples of class Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.losses import NonFiniteLossError
from avalanche_care.nn.heads import CosineHead
from avalanche_care.statistics import ClassGaussians


def align_head(
    head: CosineHead,
    gaussians: ClassGaussians,
    *,
    rates: Sequence[float],
    rows: int,
    mean_scale: Tensor | float = 1.0,
    scale: float = 20.0,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
) -> None:
    """Train a head's weights with SGD on the cross-entropy of scaled cosines.

    An epoch is ``rows`` features of every class, all of them shuffled, and a step on every ``rows``
    of them. Here the labels are shuffled and each feature is drawn when its step comes: as features
    are independent given their class, this is the same distribution, and not all of them need to
    exist at once.

    The weights are looked at once per epoch, because every look waits for the device; a loss that
    is NaN or infinite makes them NaN.

    Args:
        head: with C classes.
        gaussians: one per column of the head.
        rates: the learning rate of every epoch.
        rows: features per class and epoch, and per step.
        mean_scale: factor on the class means, one for all or (C,).
        scale: of the cosines.
        momentum: of SGD.
        weight_decay: of SGD.

    Raises:
        RuntimeError: if a class has no Gaussian.
        NonFiniteLossError: if a weight or the loss became NaN or infinite; the head is then what it
            was at the start of that epoch.
    """
    missing = [c for c in range(head.n_classes) if c not in gaussians]
    if missing:
        raise RuntimeError(f"classes in columns {missing} have no Gaussian: call fit() first")
    weight = head.weight
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=momentum, weight_decay=weight_decay)
    for epoch, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        before = weight.detach().clone()
        columns = torch.randperm(head.n_classes * rows) // rows
        samples = gaussians.draw(columns, rows, mean_scale=mean_scale, device=weight.device)
        for x, y in zip(samples, columns.to(weight.device).split(rows), strict=True):
            weight.grad = cosine_gradient(weight.detach(), x, y, scale)
            optimizer.step()
        weight.grad = None
        if not torch.isfinite(weight).all():
            with torch.no_grad():
                weight.copy_(before)
            raise NonFiniteLossError(
                f"the head became NaN or infinite in alignment epoch {epoch} and is again what it "
                "was before. Lower the alignment's learning rate."
            )


def cosine_gradient(weight: Tensor, x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Return the gradient of the mean cross-entropy of scaled cosines.

    With ``c = cos(x, w)``, ``n = |w|`` and ``e = scale (softmax(scale c) - onehot(y)) / B``, it is
    the sum over the batch of ``e (x / |x| - c w / n) / n``. Autograd spends most of its time on the
    derivative of normalised (C, D) weights, which this does not form.

    Args:
        weight: of a cosine head, (C, D).
        x: features, (B, D).
        y: column of each, (B,).
        scale: of the cosines.

    Returns:
        (C, D).
    """
    norms = torch.linalg.vector_norm(weight, dim=1).clamp_min(1e-12)  # (C,)
    x = F.normalize(x)
    cosines = x @ weight.T / norms  # (B, C)
    errors = torch.softmax(scale * cosines, dim=1)
    errors.scatter_add_(1, y[:, None], errors.new_full((len(y), 1), -1.0))
    errors *= scale / len(y) / norms
    shrink = (errors * cosines).sum(0) / norms  # (C,)
    return (errors.T @ x).addcmul_(weight, shrink[:, None], value=-1)
