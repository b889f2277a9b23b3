"""Write the pages of docs/ that are tables of what stands in the code: `make pages`. A test tells when one is stale."""

import re
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from audio_engram.report.words import MANIFOLD, METRICS
from audio_engram.settings import DescribedSection, describe_settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
WRITTEN = "<!-- Written by `make pages`: what it says stands in {}. -->"

SETTINGS = """# Settings

{written}

`engram settings` prints all of this as a TOML file, at the defaults, and `engram settings --json` as JSON. Any part of
that file is what `--config FILE` takes; `--set SECTION.KEY=VALUE` sets one key and stands above the file. A value of
`--set` is read as TOML, and what is no TOML is text: `--set 'experiments.lags=[1, 2]' --set train.step=mean`. An
unknown key is refused, with the near miss, and so is a value that a key cannot have. The `config.toml` of a run lists
every key with its value.

Some have an option of their own: `--corpus` is `data.corpus` (and `--latents FOLDER` is `data.corpus=latents:FOLDER`),
`--codec` is `codec.name`, `--experiments` is `experiments.names`, `--max-failed` is `data.max_failed`, `--seed` is
`seed` and `--device` is `device`.

{sections}

## On the demo corpus

Without `--config` the demo corpus takes these in place of the defaults:

```toml
{demo}
```
"""

METRICS_PAGE = """# Metrics

{written}

Every `metric` of `measurements.json` ([The run folder](run_folder.md)), what the report calls it, and what it is. One
without a unit is a plain number, and *times real* is over that of real stretches. A record whose `model` is a
difference, `memory-blend - memory-blend-one`, holds the first against the second. `..._analytic` is what is exactly
true of a world with a known answer. [Method](method.md) has the formulas.

{groups}
"""


class Group(NamedTuple):
    """Metrics that are read together, the experiments that measure them, and where more is said of them."""

    title: str
    experiments: str
    page: str
    names: Iterable[str]


GROUPS = (
    Group(
        "Prediction on true contexts",
        "predictability magnitude factorisation injection representation smoothing stability sampling memory two_stage",
        "[Method](method.md)",
        (
            *("delta_nll", "delta_nll_median", "delta_nll_trimmed", "delta_nll_excess", "excess_dynamics"),
            *("part_mean_reversion", "part_shape", "part_static", "part_dynamics", "exploded_share"),
            *("bits_per_dim", "nats_per_dim", "direction_cosine", "direction_cosine_standardised"),
            *("innovation_cosine", "state_r2", "increment_r2", "magnitude_r2", "magnitude_r2_of_mean"),
        ),
    ),
    Group(
        "Rollouts beside the one true future",
        "factorisation injection representation stability sampling memory correction two_stage",
        "[Method](method.md)",
        (
            *("magnitude_ratio", "state_error", "state_error_vs_still", "state_error_vs_mean"),
            *("ceiling_direction_cosine", "advantage_kept", "recovery", "first_nonfinite_step"),
        ),
    ),
    Group(
        "Sampled rollouts against real stretches",
        "stability memory correction two_stage",
        "[Manifold](manifold.md)",
        MANIFOLD,
    ),
    Group(
        "One model or corrector against another",
        "factorisation sampling memory correction two_stage",
        "[Training against drift](training.md)",
        (
            *("frechet_latents_times", "frechet_increments_times", "delta_nll_difference", "delta_nll_rollout"),
            *("delta_nll_rollout_difference", "state_error_difference", "sampled_state_error_difference"),
            *("corrector_broken_share", "corrector_broken_step", "parameters"),
        ),
    ),
    Group(
        "How prototypes are read",
        "memory",
        "[Memory](memory.md)",
        ("prototypes_in_use", "prototypes_at_once", "prototypes_apart", "prototype_gate"),
    ),
    Group(
        "Representations",
        "representation smoothing",
        "[Representations](representations.md)",
        (
            *("dynamics_per_second", "dynamics_ratio", "delta_nll_per_second", "delta_nll_excess_per_second"),
            *("nll_per_second", "cosine_gain", "spectral_distance", "distortion_ratio"),
        ),
    ),
    Group(
        "Clusters of contexts",
        "structure",
        "[Structure and archetypes](structure.md)",
        (
            *("variance_ratio", "variance_ratio_excess", "degradation", "entropy_reduction", "mass_kept"),
            *("clusters_kept", "variance_ratio_middle", "variance_ratio_high_energy"),
            *(f"variance_ratio_confident_{share}%" for share in (50, 25, 10)),
            *(f"variance_ratio_speakers_p{share}" for share in (10, 50, 90)),
        ),
    ),
    Group(
        "Clusters of directions",
        "archetypes",
        "[Structure and archetypes](structure.md)",
        (
            *("tightness", "tightness_full", "tightness_excess", "tightness_state_conditioned", "found_k"),
            *("variance_explained", "cluster_entropy", "empty_clusters", "membership_accuracy"),
            *("membership_linear", "membership_majority", "membership_excess", "eta_squared_energy_change"),
            *("eta_squared_flux", "eta_squared_pitch_change"),
        ),
    ),
)


def settings_page() -> str:
    """docs/settings.md."""
    demo = files("audio_engram").joinpath("demo.toml").read_text(encoding="utf-8")
    return SETTINGS.format(
        written=WRITTEN.format("config.py and sections.py"),
        sections="\n\n".join(_section(one) for one in describe_settings()),
        demo=demo.partition("\n\n")[2].strip(),
    )


def _section(section: DescribedSection) -> str:
    title, words = (f"`[{section.name}]`", section.words) if section.name else ("No section", "")
    rows = [
        (f"`{one.key}`", f"`{one.default}`", one.allowed, re.sub(r"docs/(\w+\.md)", r"[\1](\1)", one.meaning))
        for one in section.settings
    ]
    table = _table(("key", "default", "may be", "what it is"), rows)
    return "\n\n".join(part for part in (f"## {title}", words, table) if part)


def metrics_page() -> str:
    """docs/metrics.md."""
    return METRICS_PAGE.format(
        written=WRITTEN.format("report/metric_words.py and report/manifold_words.py"),
        groups="\n\n".join(_group(one) for one in GROUPS),
    )


def _group(group: Group) -> str:
    words = METRICS | MANIFOLD
    measured = ", ".join(f"`{name}`" for name in group.experiments.split())
    rows = [(f"`{name}`", words[name].label, words[name].unit, words[name].meaning) for name in group.names]
    table = _table(("metric", "in the report", "unit", "what it is"), rows)
    return f"## {group.title}\n\nMeasured by {measured}; see {group.page}.\n\n{table}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cells).replace("  ", " ") + " |" for cells in lines)


PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
