"""Writes the message catalogues anew from the events; `make events` calls it."""

from pathlib import Path

from mailerd.events.journald_catalog import catalogue, events

ROOT = Path(__file__).parent.parent


def files() -> dict[Path, str]:
    """What is made, and what must stand in it."""
    known = events()
    return {
        ROOT / "systemd" / "mailerd.catalog": catalogue("en", known),
        ROOT / "systemd" / "mailerd.zh_CN.catalog": catalogue("zh", known),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
