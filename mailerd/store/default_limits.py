"""The limits of the configuration, as the rate limits take them."""

from mailerd.config import Settings
from mailerd.core.rate_limit import SenderLimits
from mailerd.store.queue.rate_limits import DefaultLimits


def default_limits(settings: Settings) -> DefaultLimits:
    """What senders may use unless they have their own."""
    pace = settings.pace
    default = SenderLimits(
        units_per_minute=pace.units_per_minute,
        per_minute=pace.per_minute,
        per_day=pace.per_day,
        reserve=pace.reserve,
        min_gap=pace.min_gap,
        warm_up=pace.warm_up,
        warm_up_growth=pace.warm_up_growth,
    )
    return DefaultLimits(default, pace.consumer_per_day, pace.project_units_per_minute)
