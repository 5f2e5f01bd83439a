"""Data sets that torchvision downloads and checks, from its addresses or from files at hand."""

from __future__ import annotations

import shutil
from pathlib import Path

from avalanche_care.benchmarks.catalogue import DatasetCard, TorchvisionSource
from avalanche_care.benchmarks.importing.staging import require_space

__all__ = ["get_from_torchvision"]


def get_from_torchvision(card: DatasetCard, root: Path, files: Path | None) -> None:
    """Make torchvision's folder in a data root.

    Args:
        card: A data set that torchvision has.
        root: The directory of data sets.
        files: torchvision's archives, or a directory with them or with what is in them; None:
            download them.

    Raises:
        OSError: If the download fails, or what came is damaged.
        ValueError: If the files are not those of the data set.
    """
    import torchvision.datasets

    source = card.source
    if not isinstance(source, TorchvisionSource):
        raise ValueError(f"{card.title} is not one of torchvision's data sets")
    root.mkdir(parents=True, exist_ok=True)
    dataset = getattr(torchvision.datasets, source.cls)
    if source.cls == "Omniglot":
        from avalanche_care.benchmarks._omniglot_files import download_omniglot

        if files is not None:
            names = {f"{part}.zip": md5 for part, md5 in dataset.zips_md5.items()}
            _take(files, root / dataset.folder, names, folders=tuple(dataset.zips_md5))
        download_omniglot(root)
        return
    archives = {dataset.filename: dataset.tgz_md5}
    packed = files is None or _take(files, root, archives, folders=(dataset.base_folder,))
    try:
        for train in (True, False):
            dataset(root, train=train, download=packed)  # fetches only what is not there
    except RuntimeError as error:
        raise OSError(
            f"torchvision's {source.cls} could not be downloaded or came damaged ({error}); run it "
            f"again, or fetch it from {source.url} and pass it with --from (source=)"
        ) from error


def _take(files: Path, into: Path, archives: dict[str, str], *, folders: tuple[str, ...]) -> bool:
    """Copy archives (name -> MD5) or else folders, so that nothing is downloaded.

    Returns:
        Whether it was archives.
    """
    from torchvision.datasets.utils import check_integrity

    places = [files.parent, files] if files.is_file() else [files, files / into.name]
    for place in places:
        if all((place / name).is_file() for name in archives):
            damaged = [n for n, md5 in archives.items() if not check_integrity(place / n, md5)]
            if damaged:
                raise ValueError(f"{place / damaged[0]} is damaged or another file (other MD5)")
            _copy([place / name for name in archives], into)
            return True
        if all((place / name).is_dir() for name in folders):
            _copy([place / name for name in folders], into)
            return False
    raise ValueError(
        f"{files} has neither {' and '.join(archives)} nor {' and '.join(folders)}, unpacked"
    )


def _copy(paths: list[Path], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    paths = [path for path in paths if path != (into / path.name).resolve()]  # is there already
    files = [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]
    require_space(into, sum(file.stat().st_size for file in files))
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, into / path.name, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, into / path.name)
