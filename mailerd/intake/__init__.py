"""The intake: takes jobs over HTTP, answers 200 only for what is durable, and says what became of them."""

from mailerd.intake.accepting import Bell
from mailerd.intake.figures import Page, Shows
from mailerd.intake.forecast import Forecast
from mailerd.intake.senders import Refusal, Senders
from mailerd.intake.server import Address, Intake

__all__ = ["Address", "Bell", "Forecast", "Intake", "Page", "Refusal", "Senders", "Shows"]
