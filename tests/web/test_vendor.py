"""The scripts of others are the files that were published, byte for byte, and bring their licences."""

import hashlib
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "mailerd" / "web" / "static" / "vendor"


def test_each_script_has_the_digest_that_is_written_down_and_a_licence() -> None:
    lines = (VENDOR / "SHA256SUMS").read_text("utf-8").splitlines()
    known = {name: digest for digest, name in (line.split() for line in lines)}
    scripts = sorted(path.name for path in VENDOR.glob("*.js"))
    assert scripts == sorted(known)
    for name in scripts:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == known[name]
        assert "BSD" in (VENDOR / f"{name.split('.')[0].split('-')[0]}.LICENSE").read_text("utf-8")
        assert name.split(".")[0].split("-")[0] in (VENDOR / "VERSIONS").read_text("utf-8")
