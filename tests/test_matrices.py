"""Matrices of features or probabilities: which row belongs to which image, and what is no matrix."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelfix.errors import InputError
from labelfix.inputs import LabelTable, read_label_table
from labelfix.inputs.matrices import ROWS_PER_CHUNK, Matrix, infer_kind, read_matrix
from labelfix.settings import Kind
from labelfix.system.progress import SilentProgress


def labels(*images: str, extra: tuple[str, ...] = ()) -> LabelTable:
    annotators = [f"a{i}" for i in range(len(images))]
    names = ["x", "y"]
    given = pa.table(
        {
            "image": list(images),
            "label": [names[i % 2] for i in range(len(images))],
            "annotator": annotators,
        }
    )
    trusted = pa.table({"image": list(extra), "label": ["x"] * len(extra)}) if extra else None
    return read_label_table(given, trusted, classes=("x", "y"))


def npy(path: Path, values: object, name: str = "m.npy") -> Path:
    np.save(path / name, values)  # type: ignore[arg-type]
    return path / name


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path / "m.parquet")
    return path / "m.parquet"


def fault(path: Path, kind: Kind = Kind.AUTO) -> str:
    with pytest.raises(InputError) as caught:
        read_matrix(path, kind)
    return str(caught.value)


ROWS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)


# ------------------------------------------------------------------------------------------- row of an image


def test_npy_follows_the_rows_of_the_labels(tmp_path: Path) -> None:
    matrix = read_matrix(npy(tmp_path, ROWS))
    values, table = matrix.aligned(labels("q", "p", "r", extra=("z",)), SilentProgress())
    assert values.tolist() == ROWS.tolist()
    assert type(values) is np.ndarray
    assert values.flags.writeable
    assert table.extra_keys.to_pylist() == []


def test_npy_rows_of_one_image_have_to_agree(tmp_path: Path) -> None:
    table = labels("q", "q", "p", "p")
    matrix = read_matrix(npy(tmp_path, ROWS[[0, 0, 1, 1]]))
    assert matrix.aligned(table, SilentProgress())[0].tolist() == ROWS[:2].tolist()
    differing = Matrix(name="m.npy", values=ROWS[[0, 0, 1, 2]], keys=None)
    with pytest.raises(InputError) as caught:
        differing.aligned(table, SilentProgress())
    assert str(caught.value) == (
        "m.npy, row 4: the values of image 'p' are not those of row 3; expected the same in every row of an image. "
        "Correct one of them."
    )


def test_differing_rows_are_found_in_every_chunk() -> None:
    rows = ROWS_PER_CHUNK + 10
    table = labels(*["q"] * rows)
    values = np.ones((rows, 2), np.float32)
    values[[5, rows - 1]] = 2
    with pytest.raises(InputError) as caught:
        Matrix(name="m", values=values, keys=None).aligned(table, SilentProgress())
    assert [p.split(":")[0] for p in caught.value.problems] == ["m, row 6", f"m, row {rows}"]


@pytest.mark.parametrize("rows", [2, 4])
def test_npy_with_another_number_of_rows(tmp_path: Path, rows: int) -> None:
    matrix = read_matrix(npy(tmp_path, np.ones((rows, 2))))
    with pytest.raises(InputError, match=f"m.npy: has {rows} rows; the labels have 3"):
        matrix.aligned(labels("q", "p", "r"), SilentProgress())


def test_parquet_rows_are_found_by_image(tmp_path: Path) -> None:
    path = parquet(tmp_path, vector=list(ROWS), image=["./r", "q", "z"])
    values, table = read_matrix(path).aligned(labels("q", "r", extra=("w", "z")), SilentProgress())
    assert values.tolist() == ROWS[[1, 0, 2]].tolist()
    assert table.extra_keys.to_pylist() == ["z"]


def test_parquet_without_images_follows_the_labels(tmp_path: Path) -> None:
    path = parquet(tmp_path, a=ROWS[:, 0], b=ROWS[:, 1])
    assert (
        read_matrix(path).aligned(labels("q", "p", "r"), SilentProgress())[0].tolist() == ROWS[:, :2].tolist()
    )


def test_parquet_may_repeat_an_image_with_the_same_values(tmp_path: Path) -> None:
    path = parquet(tmp_path, file_name=["p", "q", "p"], a=[1.0, 2.0, 1.0], b=[3.0, 4.0, 3.0])
    assert read_matrix(path).aligned(labels("q", "p"), SilentProgress())[0].tolist() == [[2, 4], [1, 3]]
    path = parquet(tmp_path, file_name=["p", "q", "p"], a=[1.0, 2.0, 1.0], b=[3.0, 4.0, 5.0])
    with pytest.raises(
        InputError, match=r"m\.parquet, row 3: the values of image 'p' are not those of row 1"
    ):
        read_matrix(path).aligned(labels("q", "p"), SilentProgress())


def test_parquet_without_a_row_for_an_image(tmp_path: Path) -> None:
    matrix = read_matrix(parquet(tmp_path, image=["q"], a=[1.0], b=[2.0]))
    with pytest.raises(InputError) as caught:
        matrix.aligned(labels("q", *(f"p{i}" for i in range(20))), SilentProgress())
    assert caught.value.count == 20
    assert caught.value.problems[0].startswith("m.parquet: has no row for image 'p0', which is in the labels")


def test_columns_named_after_the_classes_come_in_class_order(tmp_path: Path) -> None:
    path = parquet(tmp_path, image=["q", "p"], y=[0.2, 0.3], x=[0.8, 0.7])
    assert read_matrix(path).aligned(labels("q", "p"), SilentProgress())[0].tolist() == [
        [0.8, 0.2],
        [0.7, 0.3],
    ]
    path = parquet(tmp_path, image=["q", "p"], b=[0.2, 0.3], a=[0.8, 0.7])
    assert read_matrix(path).aligned(labels("q", "p"), SilentProgress())[0].tolist() == [
        [0.2, 0.8],
        [0.3, 0.7],
    ]


def test_only_numbers_that_are_features_count(tmp_path: Path) -> None:
    path = parquet(
        tmp_path, image=[1, 2], label=[0.0, 1.0], fold=[3, 4], a=[1.0, 2.0], b=[3.0, 4.0], note=["n", "m"]
    )
    matrix = read_matrix(path)
    assert matrix.keys == ["1", "2"]
    assert matrix.values.tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 2)]
)
def test_lists(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([[np.float16(1), np.float16(2)], [np.float16(3), np.float16(4)]], kind)
    assert read_matrix(parquet(tmp_path, v=column)).values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", "longdouble"])
def test_number_formats_become_ones_that_are_computed_with(tmp_path: Path, dtype: str) -> None:
    values = read_matrix(npy(tmp_path, np.asfortranarray(ROWS.astype(dtype)))).values
    assert values.dtype in (np.float16, np.float32, np.float64)
    assert values.dtype.isnative
    assert values.tolist() == ROWS.tolist()


# ------------------------------------------------------------------------------------------------------ kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[0.25, 0.75], [1.0, 0.0]], Kind.PROBS),
        ([[0.25, 0.75], [1.0, 0.1]], Kind.FEATURES),
        ([[-0.25, 1.25], [1.0, 0.0]], Kind.FEATURES),
        ([[np.nan, 1.0], [1.0, 0.0]], Kind.FEATURES),
    ],
)
def test_kind_is_inferred(tmp_path: Path, values: list[list[float]], kind: Kind) -> None:
    assert infer_kind(npy(tmp_path, values), Kind.AUTO) is kind
    (tmp_path / "upper.NPY").write_bytes((tmp_path / "m.npy").read_bytes())
    assert infer_kind(tmp_path / "upper.NPY", Kind.AUTO) is kind
    assert infer_kind(parquet(tmp_path, v=values), Kind.AUTO) is kind
    assert infer_kind(tmp_path / "m.npy", Kind.FEATURES) is Kind.FEATURES
    assert infer_kind(tmp_path, Kind.AUTO) is Kind.IMAGES
    assert infer_kind(tmp_path / "gone", Kind.AUTO) is Kind.IMAGES


def test_half_precision_probabilities(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(100), 50).astype(np.float16)
    assert infer_kind(npy(tmp_path, probs), Kind.AUTO) is Kind.PROBS
    assert read_matrix(tmp_path / "m.npy", Kind.PROBS).values.shape == (50, 100)


def test_probabilities_are_checked(tmp_path: Path) -> None:
    path = npy(tmp_path, [[0.5, 0.5], [2.0, -1.0], [0.5, 0.4]])
    assert read_matrix(path).values.shape == (3, 2)
    lines = fault(path, Kind.PROBS).split("\n")
    assert [line.split(":")[0] for line in lines] == ["m.npy, row 2", "m.npy, row 3"]
    assert "is not probabilities; expected numbers from 0 to 1 whose sum is 1" in lines[0]


# -------------------------------------------------------------------------------------------- what is no matrix


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones(3), "m.npy: has shape (3,) and type float64; expected a matrix"),
        (np.float64(3), "has shape ()"),
        (np.ones((3, 1)), "has shape (3, 1)"),
        (np.ones((3, 2, 2)), "has shape (3, 2, 2)"),
        (np.empty((0, 2)), "has shape (0, 2)"),
        (np.ones((3, 2), int), "and type int64"),
        (np.ones((3, 2), complex), "and type complex128"),
        (np.array([["a", "b"]]), "and type <U1"),
        (np.zeros((2, 2), [("a", "f4")]), "and type [('a', '<f4')]"),
        ([[1.0, 2.0], [np.nan, 1.0]], "m.npy, row 2: holds a number that is not finite"),
        ([[1.0, 2.0], [1.0, np.inf]], "m.npy, row 2: holds a number that is not finite"),
    ],
)
def test_arrays_that_are_no_matrix(tmp_path: Path, values: object, said: str) -> None:
    assert said in fault(npy(tmp_path, values))


def test_every_row_that_is_not_finite_is_counted(tmp_path: Path) -> None:
    values = np.zeros((ROWS_PER_CHUNK + 5, 2), np.float32)
    values[[3, ROWS_PER_CHUNK + 4], 1] = np.nan
    lines = fault(npy(tmp_path, values)).split("\n")
    assert [line.split(":")[0] for line in lines] == ["m.npy, row 4", f"m.npy, row {ROWS_PER_CHUNK + 5}"]


def test_files_that_are_no_matrix(tmp_path: Path) -> None:
    path = tmp_path / "m.npy"
    for content in (b"", b"hello", npy(tmp_path, ROWS, "n.npy").read_bytes()[:-4]):
        path.write_bytes(content)
        assert "m.npy: is not a .npy matrix" in fault(path)
    np.savez(tmp_path / "z.npz", a=ROWS)
    (tmp_path / "z.npz").replace(path)
    assert "m.npy: is an archive of arrays" in fault(path)
    np.save(path, np.array([[object()]]), allow_pickle=True)
    assert "m.npy: is not a .npy matrix" in fault(path)
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    assert "m.parquet: is not a Parquet file" in fault(tmp_path / "m.parquet")
    assert "does not exist" in fault(tmp_path / "gone.npy")
    assert "is not a file" in fault(tmp_path)
    (tmp_path / "m.txt").write_text("1 2")
    assert "the ending '.txt'" in fault(tmp_path / "m.txt")


@pytest.mark.parametrize("kind", list(Kind))
def test_inferring_the_kind_meets_the_same_files(tmp_path: Path, kind: Kind) -> None:
    for values in (np.ones(3), np.empty((0, 2)), np.ones((2, 2), int)):
        path = npy(tmp_path, values)
        if kind is Kind.AUTO:
            with pytest.raises(InputError, match="expected a matrix"):
                infer_kind(path, kind)
        else:
            assert infer_kind(path, kind) is kind


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"v": [[1.0, 2.0], [1.0]], "image": ["a", "b"]},
            "m.parquet, row 2: has 1 numbers where the first row has 2",
        ),
        ({"v": [[1.0, 2.0], None]}, "m.parquet, row 2: has 0 numbers"),
        ({"v": [[1.0, 2.0, 3.0], [1.0]]}, "m.parquet, row 2: has 1 numbers"),
        ({"v": [[1.0, None], [1.0, 2.0]]}, "m.parquet, row 1: holds a number that is not finite"),
        ({"v": [[1, 2], [3, 4]]}, "and type int64"),
        ({"v": [[1.0, 2.0]], "w": [[1.0, 2.0]]}, "m.parquet: has several columns of lists ('v', 'w')"),
        ({"image": ["a"], "note": ["b"]}, "has shape (0,)"),
        ({"image": ["a", None], "v": [[1.0, 2.0]] * 2}, "m.parquet, row 2: the image is empty"),
        ({"image": [1.5], "v": [[1.0, 2.0]]}, "m.parquet: the image column is of type double"),
        ({"image": [b"\xe9"], "v": [[1.0, 2.0]]}, "m.parquet: the image column is of type binary"),
        ({"a": [1.0, None], "b": [1.0, 2.0]}, "m.parquet, row 2: holds a number that is not finite"),
        ({"v": pa.array([], pa.list_(pa.float32()))}, "has shape (0, 0)"),
    ],
)
def test_parquet_that_is_no_matrix(tmp_path: Path, columns: dict[str, object], said: str) -> None:
    assert said in fault(parquet(tmp_path, **columns))
