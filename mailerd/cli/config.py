"""`mailerd config`: checks the configuration."""

from mailerd.cli.common import ConfigOption, configured


def config(config: ConfigOption = None) -> None:
    """Check the configuration; what is wrong is named, key by key."""
    _, file = configured(config)
    print(f"the configuration can be used ({file})")
