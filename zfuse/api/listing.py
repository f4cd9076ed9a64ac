"""How values of this interface show themselves: one attribute a line."""


def described(class_name: str, /, **attributes: object) -> str:
    """Return the representation of an object of the class *class_name*."""
    lines = [
        f"<zfuse.{class_name}>",
        *(f"{key}: {_shown(value)}" for key, value in attributes.items()),
    ]
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    text = str(value)
    if "\n" not in text:
        return text
    return "\n" + "\n".join(f"    {line}" for line in text.rstrip("\n").splitlines())
