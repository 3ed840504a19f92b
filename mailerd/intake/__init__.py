"""The intake: takes jobs over HTTP, answers 200 only for what is durable, and says what became of them."""

from mailerd.intake.create_job import Wakeup
from mailerd.intake.forecast import Forecast
from mailerd.intake.metrics_page import Page, Shows
from mailerd.intake.resolve_sender import Senders, UnknownSender
from mailerd.intake.server import Address, Intake

__all__ = ["Address", "Forecast", "Intake", "Page", "Senders", "Shows", "UnknownSender", "Wakeup"]
