"""Why does a continuous-latent audio model drift or freeze? Measure it, for any codec and any corpus."""

__version__ = "0.1.0"
