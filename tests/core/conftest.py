"""Properties are tried often enough to find what is wrong, and seldom enough that the whole folder takes seconds."""

from hypothesis import settings

settings.register_profile("mailerd", max_examples=60, deadline=None)
settings.load_profile("mailerd")
