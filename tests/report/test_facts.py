"""What the page says of the corpus, and of hypotheses that a synthetic one cannot test."""

import json
from pathlib import Path

import pytest
from fake_run import provenance, write_run
from html_reading import Elements

from audio_engram.decide import ARRAYS
from audio_engram.report import write_report
from audio_engram.report.facts import corpus_facts, run_facts
from audio_engram.report.folder import Provenance

SHORT = "Utterances shorter than one latent, left out"


@pytest.mark.parametrize(("n", "said"), [(None, None), (0, None), (1234, "1,234")])
def test_utterances_without_a_latent_are_counted(n: int | None, said: str | None) -> None:
    facts = provenance()
    if n is not None:
        facts["corpus"]["without_latent"] = n
    assert dict(corpus_facts(Provenance.model_validate(facts))).get(SHORT) == said


@pytest.mark.parametrize(("precision", "said"), [(None, None), ("bfloat16", "bfloat16")])
def test_the_precision_of_trainings_is_told_where_it_is_known(precision: str | None, said: str | None) -> None:
    facts = provenance() | ({} if precision is None else {"precision": precision})
    assert dict(run_facts(Provenance.model_validate(facts))).get("Training in") == said


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"synthetic": True, "name": "world:ar"}, "synthetic"),
        ({"synthetic": False, "name": "librispeech"}, "recorded"),
        ({"synthetic": False, "name": "latents:mine"}, "latents without recordings"),
    ],
)
def test_latents_alone_are_not_called_recorded(changed: dict[str, object], kind: str) -> None:
    facts = provenance()
    facts["corpus"] |= changed
    assert dict(corpus_facts(Provenance.model_validate(facts)))["Kind"] == kind


@pytest.mark.parametrize("synthetic", [True, False])
def test_hypotheses_are_scored_by_recordings_only(tmp_path: Path, synthetic: bool) -> None:
    write_run(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps(provenance(synthetic)))
    page = write_report(tmp_path).read_text()
    section = Elements(page[page.index('id="priors"') :].partition("</section>")[0]).text
    assert "vMF keeps the direction" in section
    assert "0.60" in section
    assert ("0.360" in section) is not synthetic
    assert ("Brier" in section) is not synthetic
    assert ("not scored" in section) is synthetic


def test_latents_without_recordings_score_no_hypothesis_and_what_was_not_tested_says_so(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps(provenance(synthetic=False)))
    decision = json.loads((tmp_path / "decision.json").read_text())

    def told(why: str) -> str:
        decision["priors"] = [
            {"hypothesis": "it helps", "probability": 0.25, "outcome": None, "brier": None, "why": why}
        ]
        (tmp_path / "decision.json").write_text(json.dumps(decision))
        page = write_report(tmp_path).read_text()
        return Elements(page[page.index('id="priors"') :].partition("</section>")[0]).text

    section = told(ARRAYS)
    assert f"{ARRAYS}, so they are not scored." in section
    assert "Brier" not in section
    section = told("not tested: the experiment memory was not run")
    assert "not tested: the experiment memory was not run" in section
    assert "Brier" in section
