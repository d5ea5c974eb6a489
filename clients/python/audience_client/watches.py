"""How a watch ends."""


class StopWatch(Exception):
    """Raised by the state of a watch, to end it."""
