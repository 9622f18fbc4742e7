"""Checkpoints of a training run: written atomically, continued only by the same run, removed when it is done.

The folder holds ``identity.json`` (what the run is) and one file per part of the run, each replaced as a
whole: after a kill at any moment every file is either the old one or the new one. Contents are tensors and
plain values, read back with ``weights_only``.
"""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from labelfix.errors import OutputError
from labelfix.system.files import replace_file, write_new_file
from labelfix.system.run_files import CHECKPOINT_FOLDER, RUN_FILE

__all__ = ["Checkpoints", "StopRequest", "Stopped", "stop_on_signals", "what_is_kept"]

FORMAT = 3
_IDENTITY = "identity.json"
RESUME = "Go on with the same command and --resume."


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in the run directory `out`.

    Raises
    ------
    OutputError
        From every method, when a file cannot be written or read.
    """

    out: Path

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.folder_in(self.out)

    @classmethod
    def open(cls, out: Path, identity: dict[str, Any], *, resume: bool) -> "Checkpoints":
        """Return the checkpoints in `out` to continue with `resume`, else an empty folder.

        ``run.json`` of an earlier run in `out` is removed: else the checkpoints would pass for what a
        finished run left.

        Parameters
        ----------
        identity
            What must be the same for a run to be continued, as plain values for JSON.

        Raises
        ------
        OutputError
            When the checkpoints belong to a run with other options or input; they are all named.
        """
        (out / RUN_FILE).unlink(missing_ok=True)
        checkpoints = cls(out)
        path = checkpoints.folder / _IDENTITY
        identity = json.loads(json.dumps({"format": FORMAT, **identity}))
        if path.exists() and resume:
            _compare(checkpoints.folder, _read_identity(path), identity)
            return checkpoints
        for stale in (path, *checkpoints.folder.glob("*.pt")):
            stale.unlink(missing_ok=True)
        text = json.dumps(identity, indent=2, ensure_ascii=False)
        write_new_file(
            path,
            lambda temporary: temporary.write_text(text, encoding="utf-8"),
            force=True,
            advice="Choose another --out.",
        )
        return checkpoints

    @staticmethod
    def folder_in(out: Path) -> Path:
        """Return where the checkpoints of the run directory `out` are."""
        return out / CHECKPOINT_FOLDER

    def path(self, name: str) -> Path:
        """Return the file of the part called `name`."""
        return self.folder / f"{name}.pt"

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Replace the part called `name` with `state`: tensors and plain values, nested as you like."""

        def write(temporary: Path) -> None:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # so torch reports a full disk
                raise OSError(str(error)) from error

        replace_file(self.path(name), write, advice="Make room, then go on with --resume.")

    def load(self, name: str) -> dict[str, Any] | None:
        """Return the part called `name`, on the CPU; None where there is none."""
        path = self.path(name)
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file fails in many ways
            raise OutputError(
                f"{path}: cannot be read as a checkpoint ({type(error).__name__}). Delete it to repeat that "
                "part of the training, or start over with --force."
            ) from error


def what_is_kept(out: Path) -> str:
    """Say what there is in `out` after an interruption and how to go on; empty where the same command may."""
    if (out / RUN_FILE).exists():  # of this run, in its last moments, or of the one that it replaces
        return f"{out} holds a finished run, which only --force replaces."
    folder = Checkpoints.folder_in(out)
    if not folder.is_dir():
        return ""
    files = {"decoded images": "pixels.json", "the state of the training": "fold_*.pt"}
    kept = [what for what, name in files.items() if any(folder.glob(name))]
    if not kept:
        return "Nothing is kept yet: start again with the same command and --resume."
    return f"{folder} holds {' and '.join(kept)}. {RESUME}"


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read ({error}). Start over with --force.") from error


def _compare(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to continue where old and new identity differ; nested dictionaries are compared by their keys."""
    differences = _differences(old, new)
    if differences:
        raise OutputError(
            f"{folder}: belongs to another run: {'; '.join(differences[:5])}"
            f"{f'; and {len(differences) - 5} more' if len(differences) > 5 else ''}. "
            "Give the same options and input, or start over with --force instead of --resume."
        )


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    differences = []
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            differences += _differences(was, now)
        elif was != now:
            differences.append(f"{key} was {_short(was)}, now {_short(now)}")
    return differences


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


# --------------------------------------------------------------------------------------------------- signals


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, and did so after it had saved its state."""


class StopRequest:
    """Whether someone asked the run to stop; looked at between steps."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request, so that a step is finished and saved; a second one stops.

    Outside the main thread, where signals cannot be handled, nothing is changed.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}

    def ask(number: int, frame: Any) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    for number in watched:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
