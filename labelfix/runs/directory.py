"""The run directory: claimed before anything is computed, and written at the end.

``run.json`` is written last: a directory that has one is complete.
"""

import functools
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import OutputError
from labelfix.inputs.draws import Draw, keep_record
from labelfix.system.files import replace_file
from labelfix.system.run_files import CERTIFICATE_FILE, CHECKPOINT_FOLDER, DRAW_FOLDER, RUN_FILE, RUN_FILES

__all__ = ["RunDirectory"]


@dataclass(frozen=True)
class RunDirectory:
    """Where a run is written.

    Raises
    ------
    OutputError
        From every method, when the directory cannot be written.
    """

    path: Path

    @classmethod
    def claim(cls, path: str | os.PathLike[str], *, force: bool, resume: bool = False) -> "RunDirectory":
        """Check that a run may be written to `path`, before anything is computed.

        Raises
        ------
        OutputError
            When `path` holds a run and `force` is false, holds an unfinished one and `resume` is false as
            well, is a file, or cannot be written.
        """
        run = cls(Path(path))
        if run.path.exists() and not run.path.is_dir():
            raise OutputError(f"{path}: is a file; expected a folder for the results. Choose another --out.")
        present = [name for name in RUN_FILES if (run.path / name).exists()]
        finished = RUN_FILE in present
        unfinished = not finished and (run.path / CHECKPOINT_FOLDER).is_dir()
        if unfinished and not force and not resume:
            raise OutputError(
                f"{path}: holds an unfinished run. Go on with it with --resume, or start over with --force."
            )
        # a finished run has checkpoints only if it was killed at the very end
        if finished or (force and not resume):
            run.discard_checkpoints()
        if present and not force and not unfinished:
            raise OutputError(
                f"{path}: already holds a run ({', '.join(present[:3])}). "
                "Choose another --out, or replace it with --force."
            )
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            probe = run.path / f".labelfix-{uuid.uuid4().hex}.tmp"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}). Choose another --out."
            ) from error
        return run

    @property
    def draws(self) -> Path:
        """Where the records of draws are."""
        return self.path / DRAW_FOLDER

    def record_draws(self, draws: Iterable[Draw]) -> None:
        """Keep records of draws."""
        for draw in draws:
            keep_record(draw, self.draws)

    def mark_unfinished(self) -> None:
        """Remove ``run.json`` of an earlier run: the new run replaces it."""
        (self.path / RUN_FILE).unlink(missing_ok=True)

    def discard_checkpoints(self) -> None:
        """Remove the checkpoints of an unfinished run."""
        shutil.rmtree(self.path / CHECKPOINT_FOLDER, ignore_errors=True)

    def write(
        self,
        tables: dict[str, pa.Table],
        record: dict[str, Any],
        *,
        certificate: dict[str, Any] | None = None,
        kept: Sequence[str] = (),
    ) -> None:
        """Write all tables, the certificate where there is one, and then ``run.json``.

        Files that only an earlier run wrote are removed, except those named in `kept`.
        """
        self.mark_unfinished()
        for stale in self.path.glob(".*.parquet.*.tmp"):  # of a run that was killed while writing
            stale.unlink(missing_ok=True)
        for name, table in tables.items():
            replace_file(self.path / f"{name}.parquet", functools.partial(pq.write_table, table))
        for name in RUN_FILES:
            if name.removesuffix(".parquet") not in tables and name not in (RUN_FILE, *kept):
                (self.path / name).unlink(missing_ok=True)
        if certificate is not None:
            self._write_json(CERTIFICATE_FILE, certificate)
        self._write_json(RUN_FILE, record)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        self.write_file(name, text.encode())

    def write_file(self, name: str, content: bytes) -> None:
        """Write or replace one file, atomically."""
        replace_file(self.path / name, lambda path: path.write_bytes(content))
