"""Names of models as sentences have them."""

NAMES = {"mdn": "MDN", "vmf": "vMF × log-normal", "coupled": "vMF × log-normals with κ(m)"}


def spoken(model: str) -> str:
    """A model's name in a sentence: `vmf_k16` is `vMF × log-normal (unrolled, K = 16)`."""
    head, _, unroll = model.partition("_k")
    name = NAMES.get(head, head)
    return f"{name} (unrolled, K = {unroll})" if unroll else name


def begun(text: str) -> str:
    """Text as a sentence or a line begins; what means something by its case keeps it: vMF, κ, ΔNLL."""
    first, second = text[:1], text[1:2]
    return text if second.isupper() or not first.isascii() else first.upper() + text[1:]
