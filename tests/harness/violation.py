"""What a checker raises when the store did what it must not do."""


class Violation(AssertionError):
    """The store did what it must not do. `names` are the ids of the promises that were broken, or `conformance`."""

    def __init__(self, names: list[str], explanation: str) -> None:
        super().__init__(f"violated: {', '.join(names)}\n{explanation}")
        self.names = names
