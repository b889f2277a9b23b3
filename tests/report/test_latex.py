"""Tables for a paper: nothing in them is a command, they fit, and they are the tables and numbers of the page."""

import json
import re
from pathlib import Path

import pytest
from fake_run import write_run

from audio_engram import cli, numbers
from audio_engram.experiments import EXPERIMENTS
from audio_engram.report import words
from audio_engram.report.folder import read_run
from audio_engram.report.latex import WAITING, latex_tables
from audio_engram.report.latex_table import LONG, SPECIAL, as_latex, escaped, mathematical
from audio_engram.report.manifold_words import MANIFOLD
from audio_engram.report.metric_words import METRICS
from audio_engram.report.sections import sections
from audio_engram.report.tables import COLUMNS_OF_ALL, Table

HEAD = r"""\begin{table}[htbp]
\caption{50 \% of \_all\_}\label{tab:a-b-1}
\smallskip\centering\small\setlength{\tabcolsep}{4pt}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
"""
GOLDEN = (
    HEAD
    + r"""\begin{tabular}{llr}
\toprule
metric & model & value \\
\midrule
$\Delta$NLL (nats/frame) & a\_b \& c & $-7.25$ [$-7.90$, $-6.61$] \\
 & vMF $\times$ log-normal & $4.20 \times 10^{-7}$ \\
{}[odd] &  & $1{,}230$ \\
{}* & \textbackslash{}input\{x\} & not measured \\
\bottomrule
\end{tabular}}
\end{table}"""
)
STACKED = (
    HEAD
    + r"""\begin{tabular}{lrrrr}
\toprule
 &  &  &  & \$4 at one step \\
model & step 1 & step 2 & step 4 & eight \\
\midrule
MDN & $-7.25$ & -- & $2$ & $3$ \\[-0.4ex]
 & {\scriptsize [$-7.90$, $-6.61$]} &  &  & {\scriptsize [$1.23 \times 10^{-5}$, $1.23 \times 10^{5}$]} \\[0.5ex]
vMF and MDN $\times$ & $1$ & $2$ & $3$ & $4$ \\[-0.4ex]
\quad log-normal, shuffled &  &  &  &  \\[-0.4ex]
\quad within &  &  &  &  \\[0.5ex]
\bottomrule
\end{tabular}}
\end{table}"""
)


def test_a_table_as_it_is_written():
    rows = (
        ("ΔNLL (nats/frame)", "a_b & c", "−7.25 [−7.90, −6.61]"),
        ("ΔNLL (nats/frame)", "vMF × log-normal", "4.20×10⁻⁷"),
        ("[odd]", "", "1,230"),
        ("*", "\\input{x}", "not measured"),
    )
    assert as_latex(Table("50 % of _all_", ("metric", "model", "value"), rows, heads=2), "a_b 1") == [GOLDEN]


def test_intervals_stand_below_values_where_these_do_not_fit_side_by_side():
    columns = ("model", "step 1", "step 2", "step 4", "$4 at one step eight")
    rows = (
        ("MDN", "−7.25 [−7.90, −6.61]", "–", "2", "3 [1.23×10⁻⁵, 1.23×10⁵]"),
        ("vMF and MDN × log-normal, shuffled within", "1", "2", "3", "4"),
    )
    assert as_latex(Table("50 % of _all_", columns, rows), "a_b 1") == [STACKED]


def test_columns_that_do_not_fit_even_so_stand_in_a_further_part():
    columns = ("clusters", "lag", *(f"null {n}" for n in range(8)))
    rows = (("PCA 8", "1", *(f"{n}.00 [−1,000.0, −1,230.0]" for n in range(8))), ("k-means", "2", *"abcdefgh"))
    parts = as_latex(Table("All.", columns, rows, heads=2), "wide")
    headings = [tabulars(part)[0][0] for part in parts]
    assert [len(cells(line)) - 2 for line in headings] == [4, 4]
    assert all(line.startswith("clusters & lag & ") for line in headings)
    assert [n for line in headings for n in re.findall(r"null (\d)", line)] == list("01234567")
    assert [re.findall(r"\$(\d)\.00\$", part) for part in parts] == [list("0123"), list("4567")]
    assert parts[0].count("k-means & 2 & a & b & c & d ") == parts[1].count("k-means & 2 & e & f & g & h ") == 1
    assert ["(continued)" in part for part in parts] == [False, True]
    short = tuple(tuple(cell.replace(",000", "").replace(",230", "") for cell in row) for row in rows)
    assert len(as_latex(Table("All.", columns, short, heads=2), "wide")) == 1


def test_one_column_of_values_keeps_its_intervals():
    """There is nothing to stand beside, and twice as many lines would be all that is gained."""
    row = ("a metric with a rather long name", "a model with a rather long name", "−7.25 [−7.90, −6.61]")
    (text,) = as_latex(Table("", ("metric", "model", "value"), (row,), heads=2), "a")
    assert "$-7.25$ [$-7.90$, $-6.61$]" in text


def test_a_long_table_goes_on_under_the_same_number():
    rows = tuple(("ΔNLL", f"model {n}", "1") for n in range(LONG + 2))
    parts = as_latex(Table("All of it.", ("metric", "model", "value"), rows, heads=2), "all")
    assert [part.count("model ") - part.count("& model &") for part in parts] == [LONG // 2 + 1] * 2
    assert [name for part in parts for name in re.findall(r"model \d+", part)] == [name for _, name, _ in rows]
    assert [part.count(r"$\Delta$NLL") for part in parts] == [1, 1]  # which a new page says again
    assert r"\caption{All of it.}\label{tab:all}" in parts[0]
    assert r"\addtocounter{table}{-1}\caption{(continued)}" in parts[1]
    assert "label" not in parts[1]
    whole = Table("All of it.", ("metric", "model", "value"), rows[:LONG], heads=2)
    assert len(as_latex(whole, "all")) == 1


@pytest.mark.parametrize(("rows", "parts"), [(25, 1), (35, 2)])
def test_what_is_made_narrower_has_more_rows_on_a_page(rows, parts):
    names = ("memory", "in its place", "parameters", *("ΔNLL", "ΔNLL in rollout", "distance", "magnitude, median"))
    values = ("12,295", *["−2.69 [−2.90, −2.10]"] * 4)
    long = tuple((f"memory for role {n}, of some sort", "placebo: a further layer", *values) for n in range(rows))
    assert LONG < 2 * 25  # with intervals below their values it would not stand on a page if it were not that wide
    assert len(as_latex(Table("All.", names, long, heads=2), "all")) == parts


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (-77.46, "$-77.5$"),
        (0.0123, "$0.0123$"),
        (1234.5, "$1{,}230$"),
        (42e6, r"$4.20 \times 10^{7}$"),
        (-4.2e-7, r"$-4.20 \times 10^{-7}$"),
        (None, "not finite"),
        (0.0, "$0$"),
    ],
)
def test_numbers_of_the_page_become_mathematics(value, want):
    assert mathematical(numbers.number(value)) == want


def test_an_end_that_is_not_finite_stays_a_word():
    assert mathematical(numbers.interval(None, 1.5, None)) == "not finite"
    assert mathematical(numbers.interval(None, 1.5, 2.5)) == "not finite [$1.50$, $2.50$]"
    assert mathematical("1,230 [1,200, 1,260]") == "$1{,}230$ [$1{,}200$, $1{,}260$]"


@pytest.mark.parametrize("text", [r"\def\x{", "a%b", "a\nb\x00c\td", "}{", "$x^2_1$", "~#&", "é 中"])
def test_no_text_is_a_command(text):
    found = escaped(text)
    assert is_balanced(found)
    assert not re.search(r"(?<!\\)[%&#]|[\n\x00\t]", found)
    without = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]", "", found)
    assert not set(without) & set("\\{}$&#^_~%")
    assert escaped("a b") == "a b"


def test_every_character_of_the_words_has_a_form(run):
    """Greek letters and signs are no letters of LaTeX's fonts; Latin letters with accents are."""
    labels = [text for one in (METRICS | MANIFOLD).values() for text in (one.title, one.unit, one.meaning)]
    labels += [*words.MODELS.values(), *words.DATA.values(), *words.MODES.values()]
    labels += [f"{one.title} {one.question}" for one in words.EXPERIMENTS.values()]
    strange = {char for label in labels for char in label if ord(char) > 0x17F} - set(SPECIAL)
    assert strange == set()
    for everything in (False, True):
        assert all(ord(char) <= 0x17F for char in latex_tables([run], everything=everything))


def test_every_experiment_has_words():
    assert set(EXPERIMENTS) == set(words.EXPERIMENTS)
    assert all(one.title and one.question.endswith("?") and one.reading for one in words.EXPERIMENTS.values())


def is_balanced(text: str) -> bool:
    depth, plain = 0, re.sub(r"\\[\\{}$&%#_]", "", text)
    for char in plain:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0 and plain.count("$") % 2 == 0


def labels(text: str) -> list[str]:
    return re.findall(r"\\label\{tab:(\S+?)\}", text)


def captions(text: str) -> list[str]:
    return re.findall(r"\\caption\{(.*)\}\\label", text)


def tabulars(text: str) -> list[list[str]]:
    """The lines of each table, its heading first."""
    found = re.findall(r"\\toprule\n(.*?)\\bottomrule", text, flags=re.DOTALL)
    return [[line for line in one.splitlines() if line != r"\midrule"] for one in found]


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)&", line)


def test_the_tables_are_those_of_the_page(run):
    text = latex_tables([run])
    found = read_run(run)
    of_page = [
        (section.title, table)
        for section in sections(found)
        for part in section.parts
        for table in (*part.tables, *part.folded)
        if table.columns != COLUMNS_OF_ALL
    ]
    told = captions(text)
    assert len(of_page) > 10
    assert len(told) == 1 + len(of_page)
    for caption, (title, table) in zip(told[1:], of_page, strict=True):
        assert caption.startswith(escaped(f"{title}. {table.caption}"))
    assert labels(text)[:3] == ["findings", "predictability-1", "predictability-2"]
    assert len(set(labels(text))) == len(told)


def test_experiments_that_have_only_a_list_have_no_table_to_read(tmp_path):
    folder = write_run(tmp_path / "a")
    records = json.loads((folder / "measurements.json").read_text())
    records.append(records[0] | {"experiment": "of_the_future"})
    (folder / "measurements.json").write_text(json.dumps(records))
    assert "of-the-future" not in latex_tables([folder])
    assert labels(latex_tables([folder], ["of_the_future"], everything=True)) == ["of-the-future"]


def test_the_findings_stand_first(run):
    (findings,) = [one for one in latex_tables([run]).split(r"\begin{table}") if "{tab:findings}" in one]
    heading, *rows = tabulars(findings)[0]
    assert heading == r"question & judged by & verdict & value & wanted \\"
    said = [[cell.strip() for cell in cells(row.removesuffix(r"\\").partition(r" \\[")[0])] for row in rows]
    firsts = [row for row in said if row[3] and "scriptsize" not in row[3]]
    assert [row[2] for row in firsts] == [
        "pass (lag 1)",
        "fail (shuffled)",
        "pass",
        "unattainable; ceiling",
        "undecided (recoverable",
    ]
    assert [row[4] for row in firsts] == ["below $0$", "below $0$", "above $0$", "above $0.6$", "above $0.9$"]
    assert [row[3] for row in firsts] == ["$-23.0$", "$0.50$", "$0.291$", "$0.0481$", "$0.890$"]
    assert "{\\scriptsize [$-25.0$, $-21.0$]}" in findings
    whole = " ".join(re.sub(r"\\quad ", "", row[1]) for row in said)
    assert r"direction cosine, vMF $\times$ log-normal, step 16" in whole
    assert "0.0644 [0.0344, 0.0944]" in findings


def test_only_experiments_that_are_asked_for(run):
    text = latex_tables([run], ["injection", "magnitude"])
    assert {label.partition("-")[0] for label in labels(text)} == {"findings", "magnitude", "injection"}
    assert labels(text).index("magnitude-1") < labels(text).index("injection-1")
    found = tabulars(text)[0]
    assert sum("wanted" in line for line in found) == 1
    assert "above $0.9$" in "".join(found)
    assert "above $0.6$" not in "".join(found)


def test_everything_has_a_table_of_each_experiment(run):
    text = latex_tables([run], everything=True)
    measured = read_run(run).measurements
    names = {r.experiment for r in measured if r.split == "test"}
    assert set(labels(text)) == {re.sub(r"[^A-Za-z0-9:-]+", "-", n) for n in names}
    assert len(captions(text)) == len(names)
    rows = [line for _, *lines in tabulars(text) for line in lines if cells(line)[-1].strip() != r"\\[0.5ex]"]
    assert len(rows) == sum(r.split == "test" for r in measured)


def test_one_metric_of_everything(run):
    text = latex_tables([run], ["predictability", "injection"], metric="delta_nll")
    assert labels(text) == ["predictability", "injection"]
    records = [r for r in read_run(run).measurements.select(metric="delta_nll", split="test")]
    wanted = sum(r.experiment in ("predictability", "injection") for r in records)
    assert sum(len(lines) - 1 for lines in tabulars(text)) == wanted
    assert "cosine" not in text


@pytest.mark.parametrize("everything", [False, True])
def test_tables_are_in_order(run, everything):
    text = latex_tables([run], everything=everything)
    assert is_balanced("\n".join(line for line in text.splitlines() if not line.startswith("%")))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(tabulars(text))
    for one in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(l+r+)\}", one)[1])
        lines = [line for table in tabulars(one) for line in table]
        assert {len(cells(line)) for line in lines} == {columns}
        assert all(re.search(r" \\\\(\[-?0\.\dex\])?$", line) for line in lines)
    waiting = [page.count(r"\begin{table}") for page in text.split(r"\clearpage")]
    assert max(waiting) <= WAITING
    assert waiting[-1] == 0


def test_captions_are_sentences(run):
    for everything in (False, True):
        for caption in captions(latex_tables([run], everything=everything)):
            assert re.fullmatch(r"[^.?:]+[.?] .*Corpus: voices; .*over held-out speakers\.", caption)
            assert not re.search(r"  |\.\.|\?\.| \.", caption)


def test_a_caption_without_a_question(tmp_path):
    folder = write_run(tmp_path / "a")
    records = json.loads((folder / "measurements.json").read_text())
    (folder / "measurements.json").write_text(json.dumps([records[0] | {"experiment": "of_the_future"}]))
    (caption,) = captions(latex_tables([folder], ["of_the_future"], everything=True))
    assert caption.startswith("Of the future. Corpus: voices; model ")


def test_captions_say_the_codec_where_the_rows_do_not(tmp_path):
    folder = write_run(tmp_path / "a")
    records = json.loads((folder / "measurements.json").read_text())
    size = [r for r in records if r["experiment"] == "magnitude"]
    rest = [r | {"codec": "other 25 Hz"} for r in size]
    told = [r | {"experiment": "smoothing", "metric": "innovation_cosine", "data": "real"} for r in (size[0], rest[0])]
    (folder / "measurements.json").write_text(json.dumps([*(r | {"codec": "lyra"} for r in size), *rest, *told]))
    of_codecs = captions(latex_tables([folder], ["magnitude"]))[1:]
    assert [re.search("codec: (.*?);", one)[1] for one in of_codecs] == ["lyra", "other 25 Hz"]
    (side_by_side,) = captions(latex_tables([folder], ["smoothing"]))
    assert "codec:" not in side_by_side


def test_what_is_the_same_in_all_rows_is_said_once(run):
    for table in latex_tables([run], everything=True).split(r"\begin{table}")[1:]:
        heading = tabulars(table)[0][0].removesuffix(r" \\")
        for caption in captions(table):
            for name in ("lag", "step", "speakers"):
                assert (name in heading.split(" & ")) != bool(re.search(rf"\b{name} \d", caption))


def test_several_runs_are_told_apart(run, tmp_path):
    text = latex_tables([run, write_run(tmp_path / "a_second")])
    assert len(labels(text)) == len(set(labels(text))) == len(set(captions(text)))
    first, second = (re.findall(rf"\\caption\{{Run {name}\. ", text) for name in ("first", r"a\\_second"))
    assert len(first) == len(second) == len(labels(text)) / 2
    assert {label.partition("-")[0] for label in labels(text)} == {"run1", "run2"}
    one, other = write_run(tmp_path / "b" / "demo"), write_run(tmp_path / "c" / "demo")
    assert len(set(captions(latex_tables([one, other], everything=True)))) == 2 * len(
        captions(latex_tables([one], everything=True))
    )


def test_one_run_is_not_named(run):
    assert not any(caption.startswith("Run ") for caption in captions(latex_tables([run])))


def test_names_of_the_run_cannot_end_a_comment(tmp_path):
    folder = write_run(tmp_path / "a\nb")
    facts = json.loads((folder / "provenance.json").read_text())
    facts["command"] = "engram\n\\input{x}"
    (folder / "provenance.json").write_text(json.dumps(facts))
    head = latex_tables([folder]).partition(r"\begin{table}")[0]
    assert all(line.startswith("%") for line in head.splitlines() if line)


def test_the_command_prints_or_writes(run, tmp_path, capsys):
    assert cli.main(["tables", str(run), "--latex"]) == 0
    printed = capsys.readouterr().out
    assert printed == latex_tables([run])
    out = tmp_path / "tables.tex"
    assert cli.main(["tables", str(run), "--latex", "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == printed
    assert capsys.readouterr().out.strip() == str(out)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--experiments", "injection,magnitude"], {"experiments": ["magnitude", "injection"]}),
        (["--all"], {"everything": True}),
        (["--metric", "delta_nll"], {"metric": "delta_nll"}),
        (["--all", "--experiments", "magnitude"], {"everything": True, "experiments": ["magnitude"]}),
    ],
)
def test_the_command_passes_on_what_is_asked(run, capsys, options, wanted):
    assert cli.main(["tables", str(run), "--latex", *options]) == 0
    assert capsys.readouterr().out == latex_tables([run], **wanted)


def test_bad_input_is_one_line(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["tables", str(run)])
    assert stopped.value.code == 2
    assert "--latex" in capsys.readouterr().err
    has = "predictability, magnitude, factorisation, injection"
    for arguments, code, words_of in (
        ([str(run), "--latex", "--experiments", "injecton"], 2, "no such experiment: did you mean injection?"),
        ([str(run), "--latex", "--experiments", "zzz"], 2, f"no such experiment: use {has}"),
        ([str(run), "--latex", "--experiments", "injection,stability"], 2, f"{run} has no stability: it has {has}"),
        ([str(run), "--latex", "--metric", "delta_nl"], 2, "not measured: delta_nl: did you mean delta_nll?"),
        ([str(run), "--latex", "--metric", "recovery", "--experiments", "magnitude"], 2, "known are magnitude_r2,"),
        ([str(run), str(run / ".." / run.name), "--latex"], 2, "named twice"),
        ([str(tmp_path / "none"), "--latex"], 2, "no such run folder"),
        ([str(tmp_path), "--latex"], 3, "missing"),
        ([str(run), "--latex", "--out", str(tmp_path / "no" / "folder.tex")], 2, "cannot be written"),
        ([str(run), "--latex", "--out", str(tmp_path)], 2, "cannot be written"),
    ):
        assert cli.main(["tables", *arguments]) == code
        err = capsys.readouterr().err
        assert words_of in err
        assert len(err.splitlines()) == 1
    assert list(Path(tmp_path).iterdir()) == []
