"""Tables for a paper: nothing in them is a command, numbers are those of the page, what is constant is said once."""

import json
import re
from pathlib import Path

import pytest
from fake_run import write_run

from audio_engram import cli, numbers
from audio_engram.report import words
from audio_engram.report.folder import read_run
from audio_engram.report.latex import SPECIAL, as_latex, escaped, latex_tables, mathematical
from audio_engram.report.metric_words import METRICS
from audio_engram.report.tables import Table

GOLDEN = r"""\begin{longtable}{llr}
\caption{50 \% of \_all\_}\label{tab:a-b-1}\\
\toprule
metric & model & value \\
\midrule
\endfirsthead
\toprule
metric & model & value \\
\midrule
\endhead
\bottomrule
\endlastfoot
$\Delta$NLL (nats/frame) & a\_b \& c & $-7.25$ [$-7.90$, $-6.61$] \\
 & vMF $\times$ log-normal & $4.20 \times 10^{-7}$ \\
{}[odd] &  & $1{,}230$ \\
{}* & \textbackslash{}input\{x\} & not measured \\
\end{longtable}"""


def test_a_table_as_it_is_written():
    rows = (
        ("ΔNLL (nats/frame)", "a_b & c", "−7.25 [−7.90, −6.61]"),
        ("ΔNLL (nats/frame)", "vMF × log-normal", "4.20×10⁻⁷"),
        ("[odd]", "", "1,230"),
        ("*", "\\input{x}", "not measured"),
    )
    assert as_latex(Table("50 % of _all_", ("metric", "model", "value"), rows), "a_b 1") == GOLDEN


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


def test_every_character_of_the_words_has_a_form():
    """Greek letters and signs are no letters of LaTeX's fonts; Latin letters with accents are."""
    labels = [f"{one.label} {one.unit}" for one in METRICS.values()]
    labels += [*words.MODELS.values(), *words.DATA.values(), *words.MODES.values()]
    labels += [f"{one.title} {one.question}" for one in words.EXPERIMENTS.values()]
    strange = {char for label in labels for char in label if ord(char) > 0x17F} - set(SPECIAL)
    assert strange == set()


def is_balanced(text: str) -> bool:
    depth, plain = 0, re.sub(r"\\[\\{}$&%#_]", "", text)
    for char in plain:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0 and plain.count("$") % 2 == 0


def test_a_run_has_a_table_of_each_experiment(run):
    text = latex_tables([run])
    measured = read_run(run).measurements
    names = {r.experiment for r in measured if r.split == "test"}
    assert set(re.findall(r"\\label\{tab:(\S+?)\}", text)) == {re.sub(r"[^A-Za-z0-9:-]+", "-", n) for n in names}
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == len(names)
    assert is_balanced("\n".join(line for line in text.splitlines() if not line.startswith("%")))
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith((r"\caption", "metric"))]
    assert len(rows) == sum(r.split == "test" for r in measured)
    for table in text.split(r"\begin{longtable}")[1:]:
        columns = len(re.match(r"\{(l+r)\}", table)[1])
        cells = [line for line in table.splitlines() if line.endswith(r"\\") and not line.startswith(r"\caption")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in cells} == {columns}


def test_what_is_the_same_in_all_rows_is_said_once(run):
    for table in latex_tables([run]).split(r"\begin{longtable}")[1:]:
        heading = next(line for line in table.splitlines() if line.startswith("metric")).removesuffix(r" \\")
        caption = re.search(r"\\caption\{(.*)\}\\label", table)[1]
        for name in ("lag", "step", "speakers"):
            assert (name in heading.split(" & ")) != bool(re.search(rf"\b{name} \d", caption))


def test_labels_of_several_runs_differ(run, tmp_path):
    other = write_run(tmp_path / "second")
    labels = re.findall(r"\\label\{(\S+?)\}", latex_tables([run, other]))
    assert len(labels) == len(set(labels))


def test_names_of_the_run_cannot_end_a_comment(tmp_path):
    folder = write_run(tmp_path / "a\nb")
    facts = json.loads((folder / "provenance.json").read_text())
    facts["command"] = "engram\n\\input{x}"
    (folder / "provenance.json").write_text(json.dumps(facts))
    head = latex_tables([folder]).partition(r"\begin{longtable}")[0]
    assert all(line.startswith("%") for line in head.splitlines() if line)


def test_the_command_prints_or_writes(run, tmp_path, capsys):
    assert cli.main(["tables", str(run), "--latex"]) == 0
    printed = capsys.readouterr().out
    assert printed == latex_tables([run])
    out = tmp_path / "tables.tex"
    assert cli.main(["tables", str(run), "--latex", "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == printed
    assert capsys.readouterr().out.strip() == str(out)


def test_bad_input_is_one_line(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["tables", str(run)])
    assert stopped.value.code == 2
    assert "--latex" in capsys.readouterr().err
    for arguments, code, words_of in (
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
