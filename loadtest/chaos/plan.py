"""The sequence of actions of a run: random, and the same for the same seed."""

import random
from collections.abc import Iterator, Sequence


def sequence(names: Sequence[str], seed: int) -> Iterator[str]:
    """Yield names for ever: each of them once in random order, then each of them again in another order."""
    chance = random.Random(seed)  # noqa: S311 -- the order is no secret
    while True:
        order = list(names)
        chance.shuffle(order)
        yield from order
