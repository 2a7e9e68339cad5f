"""The bounds of what redaction reads of one line, span or body: in items, in characters and in numbers.

Numbers have a bound of their own because they take the most time: a text of digits and signs may be another telephone
or card number at every digit.
"""

MAX_ITEMS = 1_000
MAX_CHARACTERS = 65_536
MAX_NUMBERS = 256


class Budget:
    """The amounts that are left to read. One for each line, span or body; not thread-safe."""

    __slots__ = ("characters", "items", "numbers")

    def __init__(self, numbers: int = MAX_NUMBERS) -> None:
        self.items = MAX_ITEMS
        """Fields of mappings and items of sequences, at any depth."""
        self.characters = MAX_CHARACTERS
        """Characters of texts that have to be searched. Of those that are known to hold nothing private, none."""
        self.numbers = numbers
        """Places where a telephone, card or identity number may begin."""
