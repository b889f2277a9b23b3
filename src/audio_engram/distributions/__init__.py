"""Densities of the increment between two latent frames, and of its direction and magnitude."""

from audio_engram.distributions.base import DeltaDistribution
from audio_engram.distributions.bessel import (
    concentration_from_mean_cosine,
    log_bessel_i,
    log_normalizer,
    mean_resultant_length,
)
from audio_engram.distributions.either import Either
from audio_engram.distributions.magnitude import LogNormal, LogNormalMixture, Magnitude
from audio_engram.distributions.mixture import DiagonalGaussian, DiagonalGaussianMixture
from audio_engram.distributions.polar import CoupledConcentration, Polar, PolarMixture
from audio_engram.distributions.rotated import Rotated
from audio_engram.distributions.smoothed_bootstrap import Residuals, SmoothedBootstrap
from audio_engram.distributions.von_mises_fisher import VonMisesFisher, VonMisesFisherMixture

__all__ = [
    "CoupledConcentration",
    "DeltaDistribution",
    "DiagonalGaussian",
    "DiagonalGaussianMixture",
    "Either",
    "LogNormal",
    "LogNormalMixture",
    "Magnitude",
    "Polar",
    "PolarMixture",
    "Residuals",
    "Rotated",
    "SmoothedBootstrap",
    "VonMisesFisher",
    "VonMisesFisherMixture",
    "concentration_from_mean_cosine",
    "log_bessel_i",
    "log_normalizer",
    "mean_resultant_length",
]
