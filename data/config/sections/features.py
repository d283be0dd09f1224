"""What is known of an entity or an event, beside its id and its text."""

from typing import Annotated

from ...features.feature import Feature
from ...settings_base import Seam

AnyFeature = Annotated[Feature, Seam("features", by="kind")]
