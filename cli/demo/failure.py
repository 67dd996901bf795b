"""The one error of the demo."""


class DemoFailed(Exception):
    """A step of the demo did not do what it should; the message says which and why."""
