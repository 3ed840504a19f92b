"""Numbers with what they count, in English: "1 letter", "2,400 letters", "3 addresses"."""


def counted(number: int, noun: str) -> str:
    """A number and its noun, given in the singular; the plural of a noun in -s ends in -es."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"
