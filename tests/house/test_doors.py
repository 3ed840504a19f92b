"""One door each: a library behind a door is imported in its own part alone."""

import ast

import pytest

from tests.house.source import ROOT, imports, modules, spot, tree

SANDBOX = "mailerd/sandbox"
"""It stands in for other programs, and is none of the daemon's parts."""
DOORS = {
    "aiomysql": ("mailerd/store", SANDBOX),
    "pymysql": ("mailerd/store", SANDBOX),
    "aiogoogle": ("mailerd/gmail",),
    "jinja2": ("mailerd/mail", "mailerd/web/frame/html.py", SANDBOX),  # the console's own pages, which are no client's
    "loguru": ("mailerd/ops/log.py",),
    "pydantic_settings": ("mailerd/config",),
    "prometheus_client": ("mailerd/ops/metrics.py",),
    "email_validator": ("mailerd/mail/mime.py",),
    "standardwebhooks": ("mailerd/ops/outbound_http.py", "mailerd/client/signature.py"),
    "cryptography": ("mailerd/gmail", SANDBOX),
    "python_calamine": ("mailerd/mail/spreadsheet_child.py",),
}
"""A library, and where it may be imported."""


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_behind_its_door_alone(library: str) -> None:
    places = tuple(str(ROOT / place) for place in DOORS[library])
    found = [
        f"{spot(path, node)} imports {name}"
        for path in modules("mailerd")
        for name, node in imports(path)
        if name.split(".")[0] == library and not str(path).startswith(places)
    ]
    assert found == []


def test_a_page_sees_the_templates_of_its_request_which_are_its_keys() -> None:
    found = [
        spot(path, node)
        for path in modules("mailerd/web")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in {"library", "templates"}
        if ast.unparse(node.value).endswith("services") and path.name != "services.py"
    ]
    assert found == []
