"""Names come from corpora and codecs that strangers made: they are text and never markup."""

import json

import pytest
from fake_run import decision, measurements, provenance, training, write_run
from html_reading import Elements

from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import write_report

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
BREAK = "'</style></title></svg><iframe srcdoc=x>{{ 7*7 }}$a_b$ --> ]]>"
GLYPHS = "声 🎧"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_run(tmp_path_factory.mktemp("runs") / "hostile")
    renamed = {"mdn": SCRIPT, "vmf": IMAGE, "magnitude": BREAK, "magnitude_utterance": GLYPHS}
    found = Measurements(with_names(r, renamed) for r in measurements() if r.step in (1, 8, 16))
    found.write(folder / "measurements.json")
    facts = provenance()
    facts["codec"] |= {"name": IMAGE, "tap": SCRIPT, "extra": BREAK}
    facts["corpus"] |= {"name": SCRIPT, "reasons": {BREAK: 1}, "speakers": {IMAGE: 3}}
    facts["stages"] = [{"name": IMAGE, "seconds": 1.0}]
    facts["command"] = SCRIPT
    (folder / "provenance.json").write_text(json.dumps(facts))
    told = decision(measurements())
    told.model_copy(update={"headline": BREAK, "advice": SCRIPT, "warnings": (IMAGE,)}).write(folder / "decision.json")
    (folder / "config.toml").write_text(SCRIPT + BREAK)
    (folder / "training.json").write_text(json.dumps({IMAGE: training()["mdn"]}))
    clips = json.loads((folder / "audio" / "index.json").read_text())
    clips = [c | {"group": SCRIPT, "label": IMAGE, "note": BREAK, "kind": IMAGE} for c in clips[:2]]
    (folder / "audio" / "index.json").write_text(json.dumps(clips))
    return write_report(folder).read_text()


def with_names(record: Measurement, renamed: dict[str, str]) -> Measurement:
    return record.model_copy(update={"model": renamed.get(record.model, record.model), "codec": SCRIPT})


def test_no_element_or_handler_comes_from_a_name(page: str) -> None:
    found = Elements(page)
    assert len(found.named("script")) == 1
    assert not found.named("img")
    assert not found.named("iframe")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert len(found.named("title")) == len(found.named("style")) == 1


@pytest.mark.parametrize("name", [SCRIPT, IMAGE, BREAK, GLYPHS])
def test_the_names_stand_on_the_page_as_they_are(page: str, name: str) -> None:
    assert name in Elements(page.replace("<style>", "<p>")).text


def test_ids_stay_plain(page: str) -> None:
    ids = Elements(page).values("id")
    assert all(set(i) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for i in ids)
    assert len(set(ids)) == len(ids)
