"""The base of every value that crosses a file."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A frozen value: unknown fields are refused, numbers are never clamped."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
