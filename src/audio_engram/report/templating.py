"""The templates, and what stands beside them."""

from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def page(template: str, helpers: dict[str, Any], content: dict[str, Any]) -> str:
    """Render a page; a name that the template does not find is an error."""
    environment = Environment(
        loader=PackageLoader("audio_engram.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(helpers)
    return environment.get_template(template).render(style=asset("style.css"), **content)


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return resources.files("audio_engram.report").joinpath("templates", name).read_text(encoding="utf-8")
