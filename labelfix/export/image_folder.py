"""``imagefolder``: one folder per class, as `torchvision.datasets.ImageFolder` and others read them."""

from pathlib import Path

from labelfix.errors import InputError
from labelfix.export.decisions import Decisions
from labelfix.export.folder import write_json
from labelfix.export.image_files import ImageFiles, folder_name, transfer_file, unique_names
from labelfix.settings import Transfer

__all__ = ["write_image_folder"]


def write_image_folder(
    folder: Path, decisions: Decisions, files: ImageFiles, transfer: Transfer
) -> list[str]:
    """Write ``CLASS/FILE`` for every image, and classes.json; return the path of each, below `folder`.

    Raises
    ------
    InputError
        When the folders of two classes would differ in upper and lower case alone.
    """
    folders = [folder_name(name) for name in decisions.classes]
    clashes = {
        name.casefold() for name in folders if [f.casefold() for f in folders].count(name.casefold()) > 1
    }
    if clashes:
        alike = [name for name, f in zip(decisions.classes, folders, strict=True) if f.casefold() in clashes]
        raise InputError(
            f"classes {', '.join(map(repr, alike))} would share a folder where file names know no case; expected "
            "names that differ. Rename one, or export as huggingface."
        )
    groups = [folders[label] for label in decisions.new]
    paths = [f"{group}/{name}" for group, name in zip(groups, unique_names(files.keys, groups), strict=True)]
    for name in folders:
        (folder / name).mkdir()
    for number, path in enumerate(paths):
        transfer_file(files.path(number), folder / path, transfer)
    write_json(folder / "classes.json", dict(zip(folders, decisions.classes, strict=True)))
    return paths
