"""Local weight files: reading them without running code, and fitting them to a ViT."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
_HEADS = ("head.", "head_dist.")
_CHUNK = 1 << 24  # bytes hashed at a time


def load_weights(vit: VisionTransformer, path: Path, arch: str) -> None:
    """Load a local file into a ViT without classifier; everything must fit.

    timm's own filter translates known foreign formats and resamples the position table.

    Args:
        vit: the ViT, changed in place.
        path: a .safetensors, .npz, .pth, .pt or .bin file.
        arch: the architecture's name, for messages.

    Raises:
        ValueError: unknown kind of file, not readable as such, or keys or shapes do not fit.
    """
    if path.suffix == ".npz":
        _load_npz(vit, path, arch)
        return
    state = read_state(path)
    cause = None
    own = vit.state_dict()
    kernel = "patch_embed.proj.weight"
    # timm's filter would resample other patch sizes without a word.
    if state.get(kernel, own[kernel]).shape[2:] in (own[kernel].shape[2:], ()):
        try:
            state = checkpoint_filter_fn(dict(state), vit, adapt_layer_scale=True)
        except (AttributeError, IndexError, KeyError, RuntimeError, ValueError) as error:
            cause = error
    state = {k: v for k, v in state.items() if not k.startswith(_HEADS)}
    problems = _misfits(state, own)
    if cause is not None:
        problems.append(f"timm could not convert it ({cause})")
    if problems:
        raise ValueError(
            f"{path.name} does not fit the architecture {arch}: {'; '.join(problems)}. "
            "Give the architecture that the file was made with."
        ) from cause
    vit.load_state_dict(state)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Args:
        path: the file.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a file of tensors, without running code.

    A state dict under ``"state_dict"`` or ``"model"`` is unwrapped, DataParallel's prefix removed.

    Args:
        path: a .safetensors, .pth, .pt or .bin file.

    Returns:
        name -> tensor, on the CPU.

    Raises:
        ValueError: another kind of file, a damaged one, or something else than a state dict.
        OSError: it cannot be read.
    """
    if path.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise ValueError(
            f"{path.name}: expected .safetensors, .npz, {', '.join(_TORCH_SUFFIXES)}, got "
            f"{path.suffix or 'no suffix'}. Convert the file or rename it to what it is."
        )
    state: Any
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way, IndexError included
        raise ValueError(
            f"{path.name} cannot be read as plain tensors ({type(error).__name__}: {error}). Files "
            "are loaded without running code; save a state dict as .safetensors if it holds more."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"{path.name}: expected a state dict (name -> tensor), or one under 'state_dict' or "
            f"'model', got {type(state).__name__}. Save model.state_dict()."
        )
    return {str(k).removeprefix("module."): v for k, v in state.items()}


def _misfits(state: dict[str, Tensor], own: dict[str, Tensor]) -> list[str]:
    """Say which keys are missing, unexpected or of another shape (the first few of each)."""
    shapes = [
        f"{k} is {tuple(v.shape)}, expected {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    kinds = {
        "missing": [k for k in own if k not in state],
        "unexpected": [k for k in state if k not in own],
        "other shape": shapes,
    }
    return [
        f"{len(keys)} {kind}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for kind, keys in kinds.items()
        if keys
    ]


def _load_npz(vit: VisionTransformer, path: Path, arch: str) -> None:
    """Load Google's JAX format with timm's reader, after checks that the reader does not make."""
    try:
        problem = _npz_problem(vit, path)
        if problem:
            raise ValueError(problem)
        vit.load_pretrained(str(path))
    except (AttributeError, KeyError, RuntimeError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"{path.name} does not fit the architecture {arch}: expected Google's ViT format, got "
            f"{type(error).__name__}: {error}. Give the architecture that the file was made with."
        ) from error


def _npz_problem(vit: VisionTransformer, path: Path) -> str:
    """Compare depth and patch size: timm ignores surplus blocks and resamples other patches."""
    with np.load(path, allow_pickle=False) as archive:
        patches = [archive[n].shape[:2] for n in archive if n.endswith("embedding/kernel")]
        # Newer files stack all blocks in one array.
        stacked = [n for n in archive if n.endswith("encoderblock/LayerNorm_0/scale")]
        depth = len({m[1] for n in archive if (m := re.search(r"encoderblock_(\d+)/", n))})
        if stacked:
            depth = archive[stacked[0]].shape[0]
    patch = tuple(vit.patch_embed.patch_size)
    if depth and depth != len(vit.blocks):
        return f"it has {depth} blocks, expected {len(vit.blocks)}"
    if patches and patches[0] != patch and len(patches[0]) == 2:
        return f"its patch size is {patches[0]}, expected {patch}"
    return ""
