"""The demonstration."""


def run(keep: bool = False) -> None:
    """To be written."""
