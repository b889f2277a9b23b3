"""The correctors that are tried on rollouts, and the denoisers of a run that they follow."""

from dataclasses import dataclass
from itertools import product

import torch

from audio_engram.config import Config
from audio_engram.data.publish import make_folder
from audio_engram.errors import UsageError
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.regimes import regime
from audio_engram.rollout import Corrector
from audio_engram.runs import Run
from audio_engram.score.correction import Langevin, Tweedie
from audio_engram.score.denoiser import Denoiser, make_denoiser
from audio_engram.score.fit import fit_denoiser
from audio_engram.sections import CorrectionConfig
from audio_engram.seeds import seed_for


@dataclass(frozen=True)
class Recipe:
    """A corrector that is still to be given its denoiser: Langevin, `denoised` or not, or Tweedie without any steps.

    `step_size` is in squares of the noise level.
    """

    conditional: bool
    level: float
    steps: int = 0
    step_size: float = 0.0
    denoised: bool = False

    @property
    def name(self) -> str:
        """What it is called in measurements and sentences."""
        kind = f"Langevin {self.steps} × {self.step_size:g} σ²" if self.steps else "Tweedie"
        kind += " and Tweedie" if self.denoised else ""
        return f"{kind}, σ {self.level:g}{', given the context' if self.conditional else ''}"

    def make(self, run: Run) -> Corrector:
        """The corrector with the run's denoiser, and draws that are the same in every call."""
        model = denoiser(run, self.conditional)
        if not self.steps:
            return Tweedie(model, self.level)
        generator = torch.Generator(run.device).manual_seed(seed_for(run.config.seed, "correction", "Langevin"))
        return Langevin(model, self.level, self.step_size * self.level**2, self.steps, generator, self.denoised)


def recipes(config: CorrectionConfig) -> list[Recipe]:
    """Every combination that is asked for."""
    kinds = [(0, 0.0, False), *product(config.steps, config.step_sizes, (False, True))]
    return [Recipe(context, level, *kind) for context, level, kind in product((False, True), config.levels, kinds)]


def denoiser(run: Run, conditional: bool) -> Denoiser:
    """The run's denoiser of frames alone, or given the context; trained on first use, then kept in `checkpoints/`."""
    made: Denoiser = run.once(("denoiser", conditional), lambda: _train(run, conditional))
    return made


def _train(run: Run, conditional: bool) -> Denoiser:
    name = f"denoiser-{'conditional' if conditional else 'unconditional'}"
    config, seed, folder = run.config.score, run.config.seed, run.folder / "checkpoints"
    windows = run.windows("train", 1), run.windows("validation", 1)
    model = make_denoiser(config, windows[0], seed_for(seed, name), conditional).to(run.device)
    make_folder(folder)
    run.histories[name] = fit_denoiser(
        model,
        windows,
        config,
        seed_for(seed, "train", name),
        folder / f"{name}.safetensors",
        lambda line: run.log(f"train {name}: {line}"),
    )
    return model


def check_correction(run: Run) -> None:
    """Refuse before anything is trained what the experiment correction cannot do.

    Raises:
        UsageError: for a noise level that denoisers are not trained at, or a training regime that does not exist or
            reads more than its context.
        DataError: if validation or test speakers have too few long utterances.
    """
    name = run.config.experiments.correction.regime
    if regime(name, "experiments.correction.regime").utterance:
        raise UsageError(
            f"experiments.correction.regime: {name}: reads the utterance, which correctors know nothing of: use a "
            "regime without utterance features"
        )
    check_levels(run.config)
    for split in ("validation", "test"):
        find_trajectories(run, split)


def check_levels(config: Config) -> None:
    """Raises: UsageError for a noise level that denoisers are not trained at."""
    score = config.score
    for level in config.experiments.correction.levels:
        if not score.sigma_min <= level <= score.sigma_max:
            raise UsageError(
                f"experiments.correction.levels: {level:g}: denoisers are trained at {score.sigma_min:g} to "
                f"{score.sigma_max:g}: use one of these, or change score.sigma_min or score.sigma_max"
            )
