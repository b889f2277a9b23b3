"""The decision tree of docs/method.md: what is asked after what, and the path that findings take through it."""

from collections.abc import Mapping
from dataclasses import dataclass

from audio_engram.decision import ANSWERS, Answer, Finding


@dataclass(frozen=True)
class Node:
    """A question, the finding that answers it, and the node that follows yes, and no or open; the last has none."""

    question: str
    experiment: str
    yes: str = ""
    no: str = ""
    metric: str = ""
    model: str = ""

    def finding(self, findings: list[Finding]) -> Finding | None:
        """The first that answers the question; where several are of its kind, one that passes is enough."""
        mine = [f for f in findings if f.criterion.experiment == self.experiment and self._speaks(f)]
        return min(mine, key=lambda f: list(ANSWERS).index(f.verdict), default=None)

    def _speaks(self, finding: Finding) -> bool:
        return self.metric in ("", finding.criterion.metric) and finding.measured.model.startswith(self.model)


TREE = {
    "predictable": Node(
        "Is there anything to predict beyond regression to the mean?",
        *("predictability", "factorised", "representation"),
    ),
    "factorised": Node(
        "Does the factorised head make rollouts more stable than the mixture density?",
        *("factorisation", "archetypes", "coupled", "state_error_difference", "vmf"),
    ),
    "coupled": Node(
        "Does it with a concentration that depends on the magnitude, and a mixture of log-normals?",
        *("factorisation", "archetypes", "representation", "state_error_difference", "coupled"),
    ),
    "archetypes": Node("Do reusable directions exist?", "archetypes", "memory", "sampling"),
    "memory": Node("Does a memory of them help?", "memory", "speech", "correction"),
    "correction": Node("Does score correction help?", "correction", "speech", "smoothing"),
    "smoothing": Node("Does smoothing help?", "smoothing", "speech", "speech"),
    "sampling": Node("Does training on drawn states keep the magnitude?", "sampling", "speech", "speech"),
    "representation": Node("Does another representation help?", "representation", "speech", "speech"),
    "speech": Node("Which training keeps sampled rollouts like speech?", "stability"),
}
FIRST, SECOND = "predictable", "factorised"
BEGINNING = ("predictability", "magnitude", "factorisation", "injection")
"""What is measured first; the tree asks for two of them, and all other answers are read beside the rest."""


@dataclass(frozen=True)
class Step:
    """A node of the path with the finding that answers it, or why there is none."""

    name: str
    finding: Finding | None
    left_out: str = ""

    @property
    def node(self) -> Node:
        """The node itself."""
        return TREE[self.name]

    @property
    def answer(self) -> Answer:
        """Open where nothing was found."""
        return ANSWERS[self.finding.verdict] if self.finding is not None else "open"


def walk(findings: list[Finding], left_out: Mapping[str, str], start: str = FIRST) -> list[Step]:
    """The path, up to the first question that nothing answers.

    What is open counts as no, since nothing should rest on what is not shown. `left_out` says of experiments that the
    tree asks for why they cannot be measured; their questions stay open, and the path goes on.
    """
    steps: list[Step] = []
    name = start
    while name:
        node = TREE[name]
        steps.append(Step(name, node.finding(findings), left_out.get(node.experiment, "")))
        if steps[-1].finding is None and not steps[-1].left_out:
            break
        name = node.yes if steps[-1].answer == "yes" else node.no
    return steps


def wanted(findings: list[Finding], left_out: Mapping[str, str]) -> str:
    """The experiment that the tree asks for next; empty at its end."""
    last = walk(findings, left_out)[-1]
    return "" if last.finding is not None or last.left_out else last.node.experiment
