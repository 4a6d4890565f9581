"""What columns of people's tables really hold: each is a number or a category for certain, or one line asks."""

from decimal import Decimal
from itertools import product

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from harness.messages import heard_by
from harness.registry import DATASETS

ROWS = 80
GAPS = np.arange(ROWS) % 9 == 4


def table(**options):
    entry = DATASETS["table"]
    return entry.function(**entry.keywords(entry.complete(options)))


def world(seed=0, **columns):
    """A table of two numbers and a target of two classes, and further columns."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"age": rng.integers(18, 60, ROWS), "x": rng.normal(size=ROWS), "good": rng.integers(0, 2, ROWS), **columns}
    )


def read(folder, frame, kind="csv", target="good", **options):
    path = folder / f"table.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    return table(path=str(path), target=target, **options)


def refusal(*args, **options):
    with pytest.raises(UserError) as caught:
        read(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def width(data, column):
    """How many numbers a column became."""
    place = data.unit_names.index(column)
    return 1 if data.columns is None else data.columns.count(place)


rng = np.random.default_rng(1)
WHOLE = rng.integers(1000, 9000, ROWS)
NUMBERS = {
    "whole": WHOLE,
    "decimals": [Decimal(int(value)) / 100 for value in WHOLE],
    "float": WHOLE / 7,
    "float32": (WHOLE / 7).astype("float32"),
    "nullable": pd.Series(WHOLE).astype("Int64"),
    "seconds since 1970": 1_700_000_000 + 1000 * WHOLE,
    "exponents": WHOLE * 1e-30,
}
CATEGORIES = {
    "texts": rng.choice(["a", "b"], ROWS),
    "true and false": rng.random(ROWS) < 0.5,
    "nullable": pd.Series(rng.random(ROWS) < 0.5).astype("boolean"),
    "yes and no": rng.choice(["yes", "no"], ROWS),
    "ranges": rng.choice(["0-9", "10-19"], ROWS),
    "pandas' own": pd.Series(rng.choice(["a", "b"], ROWS)).astype("category"),
    "with a letter": rng.choice(["A1", "B2"], ROWS),
    "months": rng.choice(["2024-01", "2024-02"], ROWS),
}


@pytest.mark.parametrize("kind, gaps, what", product(["csv", "parquet"], ["", "skip", "fill"], NUMBERS))
def test_a_number_is_one_number_with_and_without_gaps(tmp_path, kind, gaps, what):
    values = pd.Series(NUMBERS[what]).mask(GAPS) if gaps else NUMBERS[what]
    data = read(tmp_path, world(pay=values), kind, missing=gaps or "error")
    assert width(data, "pay") == 1 and len(data.skipped) == (int(GAPS.sum()) if gaps == "skip" else 0)
    assert float(data.inputs[:, 2].std()) > 0.5


@pytest.mark.parametrize("kind, gaps, what", product(["csv", "parquet"], ["", "skip", "fill"], CATEGORIES))
def test_a_category_is_one_number_per_value_with_and_without_gaps(tmp_path, kind, gaps, what):
    values = pd.Series(CATEGORIES[what]).mask(GAPS) if gaps else CATEGORIES[what]
    data = read(tmp_path, world(group=values), kind, missing=gaps or "error")
    assert width(data, "group") == 2 and len(data.skipped) == (int(GAPS.sum()) if gaps == "skip" else 0)
    assert (data.inputs[:, 2:].sum(1) == 1).all()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_gaps_are_filled_in_every_role_that_a_column_has(tmp_path, kind):
    frame = world(grade=rng.choice([1, 2, 3], ROWS), code=rng.choice([4, 5], ROWS), flag=rng.random(ROWS) < 0.5)
    frame[["age", "grade", "code", "flag"]] = (
        frame[["age", "grade", "code", "flag"]]
        .astype(object)
        .mask(np.tile(GAPS[:, None], 4))
        .astype({"age": float, "grade": float, "code": float, "flag": "boolean"})
    )
    options = {"ordinal": {"grade": [1, 2, 3]}, "categorical": ["code", "flag"], "missing": "fill"}
    data = read(tmp_path, frame, kind, groups=["code"], **options)
    assert [width(data, name) for name in data.unit_names] == [1, 1, 1, 2, 2] and not data.skipped
    assert set(data.groups["code"]) == {4, 5, None}


ODD = {  # values of a column, and what the line must say
    "a question mark": (np.where(GAPS, "?", WHOLE.astype(str)), ["'?' (9 rows)", "na='?'", "categorical=[pay]"]),
    "a dash": (np.where(GAPS, "-", WHOLE.astype(str)), ["'-' (9 rows)", "na='-'"]),
    "two marks": (np.where(GAPS, rng.choice(["-", "?"], ROWS), WHOLE.astype(str)), ["na=[", "'?'", "'-'"]),
    "a typing error": (np.where(np.arange(ROWS) == 5, "12O0", WHOLE.astype(str)), ["'12O0' (1 row)", "79 of 80"]),
    "words": (np.where(GAPS, "none at all", WHOLE.astype(str)), ["'none at all' (9 rows)", "na=TEXT"]),
    "thousands": ([f"{value:,}" for value in WHOLE], ["write plain numbers", "decimal=comma"]),
    "thousands, Swiss": ([f"{value:,}.5".replace(",", "'") for value in WHOLE], ["write plain numbers"]),
    "currency": ([f"${value}" for value in WHOLE], ["currency", "write plain numbers"]),
    "euro": ([f"{value} €" for value in WHOLE], ["currency"]),
    "per cent": ([f"{value}%" for value in WHOLE], ["per cent", "write plain numbers"]),
    "a unit": ([f"{value} kg" for value in WHOLE], ["units", "write plain numbers"]),
    "decimal commas": ([f"{value / 10:.1f}".replace(".", ",") for value in WHOLE], ["decimal=comma"]),
    "zeros in front": ([f"0{value}" for value in WHOLE], ["zero in front", "categorical=[pay]"]),
    "beyond 64 bits": ([str(10**20 + row) for row in range(ROWS)], ["too large", "drop=[pay]"]),
    "near 2^62": ([2**62 + row for row in range(ROWS)], ["too large", "drop=[pay]"]),
    "dates": (pd.date_range("2024-01-01", periods=ROWS).astype(str), ["dates", "drop=[pay]"]),
    "German dates": ([f"{1 + row % 28}.3.2024" for row in range(ROWS)], ["dates"]),
    "dates of few days": (rng.choice(["2024-01-01", "2024-01-02"], ROWS), ["dates", "categorical=[pay]"]),
    "dates as numbers": (20240101 + np.arange(ROWS) % 28, ["dates", "20240101"]),
    "times": ([f"{row % 24}:30" for row in range(ROWS)], ["dates or times"]),
    "names": ([f"person {row}" for row in range(ROWS)], ["80 different texts in 80 rows", "drop=[pay]", "ids=pay"]),
    "free text": ([f"it was a good stay of {row} days" for row in range(ROWS)], ["free text", "dataset=text"]),
}


@pytest.mark.parametrize("what", ODD)
def test_a_column_that_may_be_either_is_one_line_that_shows_the_odd_values(tmp_path, what):
    values, words = ODD[what]
    line = refusal(tmp_path, world(pay=values))
    assert line.startswith("column 'pay' ") and all(word in line for word in words), line


@pytest.mark.parametrize("what", ODD)
def test_what_the_user_says_is_taken(tmp_path, what):
    values, _ = ODD[what]
    frame = world(pay=values)
    assert "pay" not in read(tmp_path, frame, drop="pay").unit_names
    half = frame.assign(pay=[frame["pay"][row // 40 * 40] for row in range(ROWS)])  # two values, both in training rows
    assert width(read(tmp_path, half, categorical=["pay"]), "pay") <= 2


def test_each_remedy_that_a_line_names_works(tmp_path):
    marked = world(pay=ODD["two marks"][0])
    data = read(tmp_path, marked, na=["-", "?"], missing="skip")
    assert width(data, "pay") == 1 and len(data.skipped) == GAPS.sum()
    coded = world(pay=np.where(GAPS, -999, WHOLE))  # a number can stand for a missing value too
    assert len(read(tmp_path, coded, na=-999, missing="skip").skipped) == GAPS.sum()
    assert len(read(tmp_path, coded, "parquet", na=-999, missing="skip").skipped) == GAPS.sum()
    commas = read(tmp_path, world(pay=ODD["decimal commas"][0], x=["0,5", "1,5"] * 40), decimal="comma")
    assert width(commas, "pay") == 1 and width(commas, "x") == 1
    plain = read(tmp_path, world(pay=WHOLE / 10, x=[0.5, 1.5] * 40))
    assert np.allclose(commas.inputs, plain.inputs)
    zeros = read(tmp_path, world(pay=ODD["zeros in front"][0]), categorical=[])  # no column is a category
    assert np.allclose(zeros.inputs, read(tmp_path, world(pay=WHOLE)).inputs)


def test_all_columns_in_doubt_are_named_at_once(tmp_path):
    frame = world(when=ODD["dates"][0], name=ODD["names"][0], town=rng.choice(["a", "b"], ROWS))
    line = refusal(tmp_path, frame)
    assert "column 'when'" in line and "also in doubt: 'name'" in line and "categorical=[town,when]" in line


@pytest.mark.parametrize("mark", ["NA", "NaN", "null", "None", "N/A"])
def test_a_name_of_a_missing_value_is_missing_among_numbers_and_a_category_among_texts(tmp_path, mark):
    numbers = read(tmp_path, world(pay=np.where(GAPS, mark, WHOLE.astype(str))), missing="skip")
    assert width(numbers, "pay") == 1 and len(numbers.skipped) == GAPS.sum()
    lines = []
    with heard_by(lines.append):
        texts = read(tmp_path, world(state=np.where(GAPS, mark, rng.choice(["CA", "NY"], ROWS))))
    assert width(texts, "state") == 3 and not texts.skipped
    assert len(lines) == 1 and f"{mark!r} (9 rows)" in lines[0] and f"na={mark!r}" in lines[0]
    missing = read(tmp_path, world(state=np.where(GAPS, mark, rng.choice(["CA", "NY"], ROWS))), na=mark, missing="fill")
    assert width(missing, "state") == 2


# Indices and ids


def test_an_index_of_pandas_is_left_out_and_said(tmp_path):
    frame, lines = world(), []
    for order in (frame, frame.sample(frac=1, random_state=0)):
        order.to_csv(tmp_path / "indexed.csv")
        with heard_by(lines.append):
            assert table(path=str(tmp_path / "indexed.csv"), target="good").unit_names == ("age", "x")
    assert len(lines) == 2 and "the first column of indexed.csv has no name" in lines[0]


def test_any_other_column_without_a_name_is_refused(tmp_path):
    world().set_axis(["age", "", "good"], axis=1).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(UserError, match="column 2 of .* has no name and holds"):
        table(path=str(tmp_path / "odd.csv"), target="good")
    (tmp_path / "ends.csv").write_text("a,good,\n" + "".join(f"{row % 5},{row % 2},\n" for row in range(ROWS)))
    assert table(path=str(tmp_path / "ends.csv"), target="good").unit_names == ("a",)


@pytest.mark.parametrize("name", ["id", "customer_id", "PassengerId", "userID", "index"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_id_of_numbers_is_no_input_without_a_word(tmp_path, name, kind):
    frame = world(**{name: rng.permutation(ROWS) + 10_000})
    assert f"drop=[{name}]" in refusal(tmp_path, frame, kind) and "categorical=[]" in refusal(tmp_path, frame, kind)
    assert read(tmp_path, frame, kind, ids=name).ids[0].startswith("10")
    assert name in read(tmp_path, frame, kind, categorical=[]).unit_names
    repeated = frame.assign(**{name: np.arange(ROWS) % 7})  # not an id of rows, whatever its name
    assert name in read(tmp_path, repeated, kind).unit_names


def test_a_column_that_numbers_the_rows_is_a_number_and_said(tmp_path):
    lines = []
    with heard_by(lines.append):
        assert "step" in read(tmp_path, world(step=np.arange(ROWS))).unit_names
    assert len(lines) == 1 and "'step' numbers the rows" in lines[0]


# Types of Parquet


PARQUET_ODD = {
    "dates": (pd.date_range("2024-01-01", periods=ROWS), "dates"),
    "days": (pd.date_range("2024-01-01", periods=ROWS).date, "dates"),
    "durations": (pd.to_timedelta(np.arange(ROWS), unit="s"), "dates or times"),
    "bytes": ([b"a", b"b"] * (ROWS // 2), "bytes"),
    "numbers as texts": (WHOLE.astype(str), "texts that are all numbers"),
}


@pytest.mark.parametrize("what", PARQUET_ODD)
def test_a_type_that_is_no_number_and_no_category_is_one_line(tmp_path, what):
    values, word = PARQUET_ODD[what]
    line = refusal(tmp_path, world(pay=values), "parquet")
    assert line.startswith("column 'pay' ") and word in line
    assert "pay" not in read(tmp_path, world(pay=values), "parquet", drop=["pay"]).unit_names


def test_decimals_of_parquet_are_the_numbers_that_they_are(tmp_path):
    decimals = read(tmp_path, world(pay=NUMBERS["decimals"]), "parquet")
    assert np.allclose(decimals.inputs, read(tmp_path, world(pay=WHOLE / 100)).inputs, atol=1e-6)
    target = read(tmp_path, world(pay=NUMBERS["decimals"]), "parquet", target="pay", task="regression")
    assert np.allclose(sorted(target.labels), sorted(WHOLE[int(name[4:])] / 100 for name in target.ids))
    assert target.classes is None


def test_a_named_index_of_parquet_is_a_column(tmp_path):
    world(town=rng.choice(["a", "b"], ROWS)).set_index("town").to_parquet(tmp_path / "indexed.parquet")
    assert "town" in table(path=str(tmp_path / "indexed.parquet"), target="good").unit_names


# Targets


@pytest.mark.parametrize(
    "values, words",
    [
        (rng.integers(0, 200, ROWS), ["different whole numbers", "task=classification", "task=regression"]),
        (ODD["dates"][0], ["dates"]),
        (ODD["names"][0], ["different texts"]),
        (ODD["per cent"][0], ["plain number"]),
        (np.where(GAPS, "?", WHOLE.astype(str)), ["'?'"]),
    ],
)
def test_a_target_that_may_be_classes_or_numbers_is_asked_for(tmp_path, values, words):
    line = refusal(tmp_path, world(goal=values), target="goal")
    assert line.startswith("target 'goal' ") and all(word in line for word in [*words, "task=regression"])


def test_the_task_that_the_user_says_is_taken(tmp_path):
    ages = rng.integers(20, 60, ROWS)
    numbers = read(tmp_path, world(goal=ages), target="goal", task="regression")
    assert numbers.labels.is_floating_point() and numbers.classes is None
    classes = read(tmp_path, world(goal=ages), target="goal", task="classification")
    assert classes.classes == tuple(map(str, sorted(set(ages.tolist()))))
    line = refusal(tmp_path, world(goal=ODD["thousands"][0]), target="goal", task="regression")
    assert "target 'goal' holds" in line and "task=regression" in line


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "values, classes",
    [
        ([0, 1], ("0", "1")),
        ([1.0, 2.0], ("1", "2")),
        (["yes", "no"], ("no", "yes")),
        ([True, False], ("False", "True")),
        (["b", "a"], ("a", "b")),
    ],
)
def test_few_values_are_classes_with_and_without_gaps(tmp_path, kind, values, classes):
    goal = pd.Series(values * (ROWS // 2))
    for column in (goal, goal.astype("boolean").mask(GAPS) if goal.dtype == bool else goal.mask(GAPS)):
        data = read(tmp_path, world(goal=column), kind, target="goal", missing="skip")
        assert data.classes == classes and len(data.skipped) == column.isna().sum()


# Files


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoted", [False, True])
def test_the_separator_follows_from_the_header(tmp_path, separator, quoted):
    name = f"pay{separator}extra" if quoted else "pay"  # a separator within quotes separates nothing
    world(**{name: WHOLE}).to_csv(tmp_path / "some.csv", index=False, sep=separator)
    assert table(path=str(tmp_path / "some.csv"), target="good").unit_names == ("age", "x", name)
    commas = [f"{value},5" for value in WHOLE]
    world(pay=commas, x=1).to_csv(tmp_path / "commas.csv", index=False, sep=separator)
    assert width(table(path=str(tmp_path / "commas.csv"), target="good", decimal="comma"), "pay") == 1


def test_a_file_that_is_no_table_of_named_columns_is_one_line(tmp_path):
    cases = {
        "two columns 'age'": "age,age,good\n1,2,0\n",
        "the first line of": "1.5,2,0\n3,4,1\n",
        "unknown column 'good': did you mean": "age;goods\n1;0\n",
    }
    for said, text in cases.items():
        (tmp_path / "odd.csv").write_text(text)
        with pytest.raises(UserError, match=said):
            table(path=str(tmp_path / "odd.csv"), target="good")
    (tmp_path / "odd.csv").write_bytes("größe,good\n1,0\n".encode("cp1252"))
    with pytest.raises(UserError, match="no UTF-8 text; save it"):
        table(path=str(tmp_path / "odd.csv"), target="good")


def test_a_training_file_of_another_kind_is_read_alike(tmp_path):
    frame = world(pay=WHOLE, town=rng.choice(["a", "b"], ROWS), flag=rng.random(ROWS) < 0.5)
    frame[:50].to_parquet(tmp_path / "train.parquet")
    frame[:50].to_csv(tmp_path / "train.csv", index=False)
    frame[50:].to_csv(tmp_path / "test.csv", index=False)
    read_with = lambda name: table(path=str(tmp_path / "test.csv"), train_path=str(tmp_path / name), target="good")
    one, other = read_with("train.parquet"), read_with("train.csv")
    assert np.allclose(one.inputs, other.inputs) and np.allclose(one.train, other.train)
