"""Classes that the official library has inside of others."""


def nest(outer: type, **classes: type) -> None:
    """Make *classes* attributes of *outer*, under whose name they go, into pickles, too."""
    for name, each in classes.items():
        each.__name__ = name
        each.__qualname__ = f"{outer.__qualname__}.{name}"
        setattr(outer, name, each)
