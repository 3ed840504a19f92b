"""What every section of the settings is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]
Limit = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """The base of a section: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
