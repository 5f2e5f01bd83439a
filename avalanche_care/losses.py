"""Loss functions of the methods, as pure functions of tensors, and the error of a bad loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite; nothing was updated with it."""


def angular_penalty(
    cosines: Tensor, targets: Tensor, *, scale: float = 20.0, margin: float = 0.0
) -> Tensor:
    """Cross-entropy of scaled cosines, with a margin taken off the target's.

    CaRE, equation 2: the mean of ``-log(e^{s (cos_y - m)} / (e^{s (cos_y - m)} + sum_{j != y} e^{s
    cos_j}))``.

    Args:
        cosines: (B, k), the current task's columns only; also applied to plain logits.
        targets: column indices, (B,).
        scale: s.
        margin: m.

    Returns:
        A scalar.
    """
    if margin:
        cosines = cosines - margin * F.one_hot(targets, cosines.shape[1]).to(cosines.dtype)
    return F.cross_entropy(scale * cosines, targets)


def distillation(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Knowledge distillation of Hinton et al., 2015 (arXiv 1503.02531), section 2.

    ``tau^2 KL(softmax(teacher / tau) || softmax(student / tau))``, averaged over the batch. The
    teacher is detached.

    Args:
        student: logits, (B, k).
        teacher: logits, (B, k).
        temperature: tau.

    Returns:
        A scalar.
    """
    target = F.log_softmax(teacher.detach() / temperature, dim=1)
    given = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * F.kl_div(given, target, reduction="batchmean", log_target=True)


def orthogonality(rows: Tensor) -> Tensor:
    """How far rows are from being orthonormal: ``mean((R R' - I)^2)``.

    CODA-Prompt, section 4 (arXiv 2211.13218), averaged over the entries as in its released code.

    Args:
        rows: R, (n, D), or several of them, (..., n, D).

    Returns:
        A scalar: the sum over the leading axes.
    """
    identity = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
    return (rows @ rows.mT - identity).square().mean((-2, -1)).sum()


def perceptron_loss(
    logits: Sequence[Tensor],
    cosines: Tensor,
    targets: Tensor,
    *,
    scale: float = 20.0,
    margin: float = 0.0,
    angular: bool = True,
    distil: bool = True,
    soft_from_block: int | None = 6,
) -> Tensor:
    """The auxiliary loss of CaRE's class perceptrons, averaged over the blocks.

    Per block: a hard loss on the labels and, with ``distil``, a soft one that pulls the perceptron
    towards the classifier's cosines, with temperature 1 in the first blocks and 2 in the rest. The
    two are averaged, as in the released code, where the paper's equations 8 and 9 add them. The
    teacher is the cosines as they are, not scaled.

    Args:
        logits: one (B, k) tensor of the current task's perceptron per block.
        cosines: the classifier's cosines for the current classes, (B, k); the teacher.
        targets: column indices, (B,).
        scale: of the angular penalty on the logits.
        margin: of the angular penalty on the logits.
        angular: the hard loss is the angular penalty; False: plain cross-entropy.
        distil: add the soft loss.
        soft_from_block: first block with temperature 2; None: all have temperature 1.

    Returns:
        A scalar.
    """
    losses = []
    for block, z in enumerate(logits):
        if angular:
            loss = angular_penalty(z, targets, scale=scale, margin=margin)
        else:
            loss = F.cross_entropy(z, targets)
        if distil:
            warm = soft_from_block is not None and block >= soft_from_block
            loss = (loss + distillation(z, cosines, temperature=2.0 if warm else 1.0)) / 2
        losses.append(loss)
    return torch.stack(losses).mean()
