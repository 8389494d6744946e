"""`compare --with FILE.csv`: rows of other people's tables and of our own files beside the runs of a store."""

import csv
import io
from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from orchestrator.pages.comparison_page import write_page
from orchestrator.reading.comparison import Comparison, compare
from orchestrator.reading.formats import columns, comma_separated, latex, markdown, rows
from orchestrator.reading.groups import Runs
from orchestrator.reading.rows_of_files import given_rows
from orchestrator.storage.store import Store
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run

RESULTS = Path(__file__).parents[1] / "results"
PLACES = [("seed", "train"), ("pseudo", "train"), ("seg", "val")]
PUBLISHED = """\ufeffmethod,quantity,split,segmenter,miou,f,source,note
CAM,seed,train,,48.8,,"IRN, Table 1",a
IRN,pseudo,train,,66.5 ± 0.4,"40.1+-1",,b
IRN,seg,val,r50,63.5,,,c
IRN,seg,test,r50,64.8,,,d
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rows")
    finished_run(root / "store", write_image_set(root / "images"), "cam+irn")
    return root / "store"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published.csv"
    path.write_text(PUBLISHED, encoding="utf-8")
    return path


def compared(store: Path, *files: Path) -> Comparison:
    return compare([Runs(store).group("cam+irn")], Store(store), files)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_unknown_plot_is_refused_before_anything_is_compared(store: Path, command: Command) -> None:
    code, shown, errors = command("compare", "cam+irn", "--store", store, "--plot", "xx")
    assert code == 2 and not shown and errors.startswith("error: --plot xx is not jf\n")


def test_rows_of_a_file_stand_after_the_runs_of_the_same_quantity_and_list(store: Path, published: Path) -> None:
    comparison = compared(store, published)
    heads = [head.removeprefix(">") for head in columns(comparison)]
    table = [dict(zip(heads, row, strict=True)) for row in rows(comparison)]
    assert [(row[""], row["method"], row["from"]) for row in table] == [
        ("seed", "cam+irn", ""),
        ("seed", "CAM", "IRN, Table 1"),
        ("pseudo", "cam+irn", ""),
        ("pseudo", "IRN", "published.csv"),
        ("seg", "cam+irn", ""),
        ("seg", "IRN r50", "published.csv"),
    ]
    assert [row["mIoU"] for row in table[1::2]] == ["48.8", "66.5 ± 0.4", "63.5"] and table[3]["F"] == "40.1 ± 1.0"
    assert "from" not in columns(compared(store))


def test_every_format_has_them(store: Path, published: Path, tmp_path: Path) -> None:
    comparison = compared(store, published)
    assert "| seg | IRN r50 |  | val |" in markdown(comparison)
    assert r"IRN (published.csv) & - & 66.5 $\pm$ 0.4 & - \\" in latex(comparison)
    lines = list(csv.DictReader(io.StringIO(comma_separated(comparison))))
    (line,) = (line for line in lines if line["method"] == "IRN" and line["metric"] == "miou")
    assert (float(line["mean"]), float(line["std"])) == (pytest.approx(0.665), pytest.approx(0.004))
    write_page(comparison, store, tmp_path / "page.html", count=1)
    assert "IRN, Table 1" in (tmp_path / "page.html").read_text()


def test_a_file_that_compare_has_written_is_read_as_it_was(store: Path, published: Path, tmp_path: Path) -> None:
    first = compared(store, published)
    path = written(tmp_path, comma_separated(first))
    assert {line["unit"] for line in csv.DictReader(path.open()) if line["metric"] == "miou"} == {"fraction"}
    again = given_rows([path], "images", PLACES)
    for place in PLACES:
        (line,) = first.lines[place]
        own, given = again[place]
        assert (own.label, own.of, own.runs, own.source) == ("cam+irn", line.row.about["component"], "1", "table.csv")
        assert {name: mean for name, (mean, _) in own.values.items()} == {
            name: spread.mean for name, spread in line.row.scores.items() if name != "oracle"
        }
        (before,) = first.given[place]
        assert (given.label, given.source, given.values) == (before.label, before.source, before.values)


def test_rows_of_equal_names_in_a_written_file_stay_apart(tmp_path: Path) -> None:
    wide = written(tmp_path, "method,quantity,split,miou\ncam,seed,train,50\ncam,seed,train,51\n")
    long = "method,run,quantity,of,split,metric,class,n,mean,std\n" + "".join(
        f"cam,,seed,,train,miou,,1,{value},\n" for value in (0.5, 0.51)
    )
    for found in (given_rows([wide], "x", PLACES), given_rows([written(tmp_path, long)], "x", PLACES)):
        assert [row.values["miou"][0] for row in found["seed", "train"]] == [0.5, 0.51]


def test_rows_of_other_images_are_left_out(tmp_path: Path) -> None:
    path = written(
        tmp_path, "images,method,quantity,split,miou\nvoc12,cam,seed,train,48.8\nmine,cam,seed,train,50\n,cam,seed,train,51\n"
    )
    assert [row.values["miou"][0] for row in given_rows([path], "mine", PLACES)["seed", "train"]] == [0.5, 0.51]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("method,quantity,split,miou\n" + "x" * 200_000, "cannot be read as CSV (field larger than field limit"),
        ("", "has no lines; it needs a heading and a line for each result"),
        ("method,split,miou\ncam,train,50\n", "has no column 'quantity'; it has method, split, miou"),
        ("method,quantity,split,miou\ncam,seeds,train,50\n", "line 2: there is no quantity 'seeds'; there are seed, pseudo, seg"),
        ("method,quantity,split,IoU\ncam,seed,train,50\n", "has no column of a metric of seed, such as miou, f, jf"),
        ("method,quantity,split,miou\ncam,seed,train,fifty\n", "line 2, miou: 'fifty' is no number such as 62.6 or 62.6 ± 1.0"),
        ("method,quantity,split,miou\ncam,seed,train,1.2.3\n", "line 2, miou: '1.2.3' is no number"),
        ("method,quantity,split,miou\ncam,seed,train,0.488\n", "miou: 0.488 is not in percent; write 62.6 for a share of 0.626"),
        (
            "method,quantity,split,miou\ncam,seed,val,50\n",
            "has no row to compare: it has seed on val, and the runs have seed on train",
        ),
        (
            "images,method,quantity,split,miou\nvoc12,cam,seed,train,50\n",
            "it has nothing on mine, and the runs have seed on train",
        ),
        ("method,quantity,split,metric,class,mean\ncam,seed,train,miou,,x\n", "line 2: mean 'x' or std None is no number"),
        ("method,quantity,split,miou\ncam,seed,train,-5\n", "miou: -5 is not in percent; write 62.6 for a share of 0.626"),
        *(
            (
                f"method,quantity,split,metric,class,mean,std\ncam,seed,train,miou,,{mean},{std}\n",
                f"line 2: mean {mean} with std {std or 'unknown'} is no score; this file has fractions, so write 0.626",
            )
            for mean, std in (("50.8", ""), ("nan", ""), ("inf", ""), ("-0.5", ""), ("0.5", "nan"), ("0.5", "-1"))
        ),
    ],
)
def test_what_is_no_such_table_is_refused_in_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(WrongInput) as refused:
        given_rows([written(tmp_path, text)], "mine", PLACES)
    assert told in str(refused.value) and str(refused.value).startswith(f"--with {tmp_path / 'table.csv'}")


def test_a_missing_file_and_one_that_is_no_text_are_refused(store: Path, tmp_path: Path, command: Command) -> None:
    code, _, errors = command("compare", "cam+irn", "--store", store, "--with", tmp_path / "none.csv")
    assert code == 2 and f"--with {tmp_path / 'none.csv'}: there is no such file" in errors
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe")
    code, _, errors = command("compare", "cam+irn", "--store", store, "--with", tmp_path / "image.csv")
    assert code == 2 and "cannot be read as CSV" in errors


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.csv")), ids=lambda path: path.name)
def test_our_own_files_can_be_read(path: Path) -> None:
    assert sum(map(len, given_rows([path], path.stem, PLACES).values())) > 5
