"""Which prototypes a memory reads, and whether held-out speakers make it read the same."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.data.windows import Windows
from audio_engram.dynamics.memory import MemoryHead
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.errors import UsageError

CHUNK = 4096


@dataclass(frozen=True)
class PrototypeUse:
    """What is read over M contexts: the share of each prototype, and of each context the entropy of alpha and the gate.

    Entropies are in nats.
    """

    share: Float[Tensor, " K"]
    entropy: Float[Tensor, " M"]
    gate: Float[Tensor, " M"]

    @property
    def perplexity(self) -> float:
        """The effective number of prototypes in use: exp of the entropy of the shares, 1 to K."""
        return float(entropy_of(self.share).exp())

    @property
    def at_once(self) -> float:
        """The effective number of prototypes that one context reads: exp of the mean entropy of alpha, 1 to K."""
        return float(self.entropy.mean().exp())

    def apart(self, other: "PrototypeUse") -> float:
        """Total variation between the shares of two splits: the mass that is read elsewhere, 0 to 1."""
        return float((self.share - other.share).abs().sum() / 2)


@torch.no_grad()
def prototype_use(model: DynamicsModel, windows: Windows, index: Int[Tensor, " M"]) -> PrototypeUse:
    """How the model reads its memory at these windows (lag `windows.steps`).

    Raises:
        UsageError: if the model has no memory.
    """
    head = model.head
    if not isinstance(head, MemoryHead):
        raise UsageError(f"model {model.kind}: has no memory: set model.memory.direction")
    share = torch.zeros(model.config.memory.prototypes, dtype=torch.float64)
    entropies, gates = [], []
    device = next(model.parameters()).device
    for segment in windows.batches(index, CHUNK):
        context = segment.context.to(device)
        raw = model.outputs(context, segment.utterance.to(device) if model.n_features else None)
        alpha = head.weights(raw, context[:, -1]).double().cpu()
        share += alpha.sum(0)
        entropies.append(entropy_of(alpha))
        gates.append(head.gate(raw).cpu())
    return PrototypeUse(share / len(index), torch.cat(entropies), torch.cat(gates))


def entropy_of(share: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Entropy in nats."""
    return torch.special.entr(share).sum(-1)
