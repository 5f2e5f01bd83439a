"""A learned model as two files, and predicting with it. Avalanche is not imported."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torchvision import transforms

from avalanche_care._files import replace_text
from avalanche_care._version import __version__
from avalanche_care.benchmarks.images import load_image
from avalanche_care.benchmarks.transforms import transform_family
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.model_state import learned_state, load_learned
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.nn.weights import embedded_metadata

__all__ = ["ExportedModel", "Prediction", "load", "save_exported"]

FORMAT = 1  # raise it when a key changes its meaning
DESCRIPTION, TENSORS, BACKBONE = "model.json", "model.safetensors", "backbone.safetensors"
ROOM = "avalanche_care.nn."  # models are looked for here and nowhere else


@dataclass(frozen=True)
class Prediction:
    """A class and how sure the model is of it.

    Attributes:
        label: the class, by its position in the class order.
        name: of the class; its label as text, if the data set has no names.
        score: softmax of the model's scores over all classes, in [0, 1].
    """

    label: int
    name: str
    score: float


class ExportedModel:
    """A learned model that predicts.

    Args:
        model: the model.
        about: the description that was stored with it.

    Attributes:
        model: a torch module, in eval mode.
        about: method, benchmark, backbone, classes, transforms and versions.
        class_names: name of each label; None if the data set has none.
        transform: from an RGB PIL image to what the model takes; None if it was learned with
            transforms that cannot be written down.
    """

    def __init__(self, model: FrozenClassifier, about: Mapping[str, Any]) -> None:
        self.model = model.eval()
        self.about = dict(about)
        self.class_names: list[str] | None = about["class_names"]
        self.transform = _transform(about["transform"])

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Return a score per class, the highest of the predicted one.

        Args:
            x: prepared images, (B, C, H, W).

        Returns:
            (B, classes), in label order.
        """
        device = next(iter(self.model.parameters())).device
        return self.model.predict(x.to(device), **self.about["prediction"])

    def predict(
        self, images: Sequence[str | os.PathLike[str] | Image.Image], *, top: int = 1
    ) -> list[list[Prediction]]:
        """Return the likeliest classes of images.

        Args:
            images: files or PIL images.
            top: how many classes of each, at least 1.

        Returns:
            For each image its classes, the likeliest first.

        Raises:
            ValueError: if ``top`` is less than 1, an image cannot be read, or the model does not
                know how to prepare images.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        if self.transform is None:
            raise ValueError(
                "this model was learned with transforms that were not recorded: prepare the images "
                "as in training and call scores()"
            )
        if not len(images):
            return []
        opened = [i if isinstance(i, Image.Image) else load_image(os.fspath(i)) for i in images]
        x = torch.stack([self.transform(image.convert("RGB")) for image in opened])  # (B, C, H, W)
        found = self.scores(x).softmax(1).topk(min(top, self.model.head.n_classes))
        return [
            [Prediction(label, self._name(label), score) for label, score in zip(*row, strict=True)]
            for row in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]

    def _name(self, label: int) -> str:
        return str(label) if self.class_names is None else self.class_names[label]


def save_exported(
    model: FrozenClassifier,
    directory: str | os.PathLike[str],
    *,
    prediction: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    transform: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    with_backbone: bool = False,
) -> Path:
    """Write a learned model for use elsewhere: ``model.safetensors`` and ``model.json``.

    Args:
        model: of a class in :mod:`avalanche_care.nn`.
        directory: it must not hold a model yet.
        prediction: arguments of the model's ``predict``.
        class_names: name of each label.
        transform: how images are prepared: ``family``, ``dataset`` and ``image_size`` of
            :func:`transform_family`, or ``size`` for a plain resize; None if unknown.
        about: what else to note, as plain values.
        with_backbone: write the backbone's weights too, so that they need not be found again.

    Returns:
        The directory.

    Raises:
        FileExistsError: if there is a model already.
        ValueError: if models of this class cannot be exported.
    """
    kind = type(model)
    if not kind.__module__.startswith(ROOM):
        raise ValueError(f"a {kind.__name__} cannot be exported: only models of {ROOM[:-1]} can")
    target = Path(directory)
    if (target / DESCRIPTION).exists():
        raise FileExistsError(f"{target} holds a model already; choose another directory")
    target.mkdir(parents=True, exist_ok=True)
    backbone = model.backbone
    # save_file() would make files that nobody but their owner may read
    (target / TENSORS).write_bytes(save(_storable(learned_state(model))))
    if with_backbone:
        metadata = embedded_metadata(backbone.info.name)
        (target / BACKBONE).write_bytes(save(_storable(backbone.vit.state_dict()), metadata))
    description = {
        "format": FORMAT,
        "version": __version__,
        "model": f"{kind.__module__.removeprefix(ROOM)}.{kind.__name__}",
        "arguments": model.arguments(),
        "backbone": {**dataclasses.asdict(backbone.info), "img_size": backbone.img_size[0]},
        "prediction": dict(prediction),
        "class_names": None if class_names is None else list(class_names),
        "transform": transform,
        "about": dict(about or {}),
    }
    replace_text(target / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    return target


def load(
    directory: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
) -> ExportedModel:
    """Read an exported model. No code in the files is run, and Avalanche is not needed.

    Args:
        directory: where ``avalanche-care export`` has written it.
        weights: file with the backbone's weights; None: those beside the model, if they were
            exported too, else by the backbone's name.
        device: where it predicts.

    Returns:
        The model.

    Raises:
        FileNotFoundError: if there is no exported model.
        ValueError: if the files are damaged or of a later version, or the backbone is another one.

    Example:
        >>> model = load("exported/care")  # doctest: +SKIP
        >>> model.predict(["cat.jpg"])[0][0].name  # doctest: +SKIP
        'cat'
    """
    source = Path(directory)
    about = _description(source / DESCRIPTION)
    backbone = _backbone(source, about["backbone"], weights)
    try:
        model = _kind(about["model"]).from_arguments(backbone, about["arguments"])
        load_learned(model, load_file(source / TENSORS))
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{source / TENSORS} does not fit {DESCRIPTION}: {error}") from error
    return ExportedModel(model.to(device), about)


def _description(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} holds no exported model: it has no {DESCRIPTION}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        version = about["format"]
        lacking = {"model", "arguments", "backbone", "prediction", "class_names", "transform"}
        lacking -= about.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not describe an exported model: {error!r}") from error
    if version != FORMAT:
        raise ValueError(
            f"{path} is of format {version}, this version of avalanche_care reads {FORMAT}"
        )
    if lacking:
        raise ValueError(f"{path} does not describe an exported model: {sorted(lacking)} missing")
    description: dict[str, Any] = about
    return description


def _kind(name: str) -> type[FrozenClassifier]:
    """The class of a model; no other code can be reached from here."""
    module, _, attribute = name.rpartition(".")
    if not re.fullmatch(r"[a-z0-9_]+", module):
        raise ValueError(f"there is no model {name!r}")
    try:
        kind = getattr(import_module(ROOM + module), attribute)
    except (ImportError, AttributeError):
        raise ValueError(f"there is no model {name!r}") from None
    if not (isinstance(kind, type) and issubclass(kind, FrozenClassifier)):
        raise ValueError(f"{name!r} is no model")
    return kind


def _backbone(
    source: Path, info: Mapping[str, Any], weights: str | os.PathLike[str] | None
) -> FrozenViT:
    own = source / BACKBONE
    if weights is None and own.exists():
        return FrozenViT.create(info["name"], weights=own, img_size=info["img_size"])
    backbone = FrozenViT.create(
        info["name"],
        weights=None if weights is None else Path(weights),
        img_size=info["img_size"],
    )
    if backbone.info.sha256 != info["sha256"]:
        raise ValueError(
            f"the model was learned on {info['name']} with weights of SHA-256 "
            f"{info['sha256'][:16]}, these have {backbone.info.sha256[:16]}: pass the file with "
            "the right ones as weights"
        )
    return backbone


def _transform(spec: Mapping[str, Any] | None) -> Any:
    """The evaluation transform that was written down."""
    if spec is None:
        return None
    if "family" in spec:
        return transform_family(spec["family"], spec["dataset"], spec["image_size"]).eval
    return transforms.Compose(
        [
            transforms.Resize((spec["size"], spec["size"])),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: contiguous, on the CPU, none sharing memory."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
