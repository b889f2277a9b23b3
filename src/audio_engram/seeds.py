"""Random streams: one root seed, and a seed of its own for every named purpose."""

import hashlib

import torch


def seed_for(root: int, *purpose: int | str) -> int:
    """The seed for a purpose such as `("train", "mdn", 3)`; the same purpose gives the same seed."""
    text = "/".join(map(str, (root, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def generator_for(root: int, *purpose: int | str) -> torch.Generator:
    """A CPU generator seeded by `seed_for`."""
    return torch.Generator().manual_seed(seed_for(root, *purpose))


def child(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator on a device, seeded by the next number of another one."""
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
