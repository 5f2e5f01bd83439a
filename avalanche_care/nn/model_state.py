"""What a model has learned, without the frozen backbone that it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["BACKBONE", "learned_state", "load_learned", "load_model_state", "model_state"]

BACKBONE = "backbone."  # what starts so in a model's state is frozen, and comes from its own file


def learned_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's tensors without the backbone's.

    Args:
        model: the backbone, if it has one, is its attribute ``backbone``.
    """
    return {
        name: _compact(value)
        for name, value in model.state_dict().items()
        if not name.startswith(BACKBONE)
    }


def load_learned(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Restore what :func:`learned_state` returned; growing modules take the saved sizes.

    Raises:
        ValueError: if the tensors are not of such a model.
    """
    try:
        missing, unexpected = model.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:  # a shape that does not fit
        raise ValueError(f"the state is of another model: {error}") from error
    missing = [name for name in missing if not name.startswith(BACKBONE)]
    if missing or unexpected:
        raise ValueError(
            f"the state is of another model: {len(missing)} tensors are missing in it "
            f"{missing[:3]}, {len(unexpected)} are unknown {unexpected[:3]}"
        )


def model_state(model: nn.Module) -> dict[str, Any]:
    """Return what training goes on from.

    Returns:
        ``tensors``, see :func:`learned_state`, and ``frozen``, the names of parameters outside the
        backbone that require no gradient.
    """
    frozen = [
        name
        for name, parameter in model.named_parameters()
        if not (parameter.requires_grad or name.startswith(BACKBONE))
    ]
    return {"tensors": learned_state(model), "frozen": frozen}


def load_model_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Restore what :func:`model_state` returned.

    Raises:
        ValueError: as :func:`load_learned`.
    """
    load_learned(model, state["tensors"])
    frozen = set(state["frozen"])
    for name, parameter in model.named_parameters():
        if not name.startswith(BACKBONE):
            parameter.requires_grad_(name not in frozen)


def _compact(tensor: Tensor) -> Tensor:
    """A tensor that does not drag a larger storage along when it is saved."""
    tensor = tensor.detach()
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone()
