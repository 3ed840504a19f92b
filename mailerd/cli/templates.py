"""`mailerd templates`: whether the named templates can be used, and what a letter of one looks like."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mailerd.cli.common import ConfigOption, json_object, settings
from mailerd.core.variables import merge
from mailerd.errors import MailerdError
from mailerd.letters import Content, RenderError
from mailerd.letters.library import Library, LibraryError, Named

app = typer.Typer(help="Check and look at the named templates.", no_args_is_help=True)

_FOLDER = typer.Option(file_okay=False, exists=True, help="The folder; by default templates.folder of the settings.")


@app.command("check")
def check(folder: Annotated[Path | None, _FOLDER] = None, config: ConfigOption = None) -> None:
    """Compile every template and render it with its own examples; exit code 1 when one of them cannot be used."""
    library = _library(folder, config)
    names = library.names()
    broken = sum(not _passes(library, name) for name in names)
    print(f"{len(names)} templates, {broken} that cannot be used")
    if broken:
        raise typer.Exit(1)


def _passes(library: Library, name: str) -> bool:
    try:
        named = _find(library, name)
        for language in (None, *named.languages):
            _render(named, language=language, variables={})
    except MailerdError as error:
        print(f"FAIL {error}")
        return False
    also = f", also in {', '.join(sorted(named.languages))}" if named.languages else ""
    pictures = f", {len(named.pictures)} pictures" if named.pictures else ""
    print(f"PASS template {name}, version {named.version}{also}{pictures}")
    return True


@app.command("preview")
def preview(
    name: Annotated[str, typer.Argument(help="The template's name.")],
    *,
    folder: Annotated[Path | None, _FOLDER] = None,
    language: Annotated[str | None, typer.Option(help="The recipient's language.")] = None,
    variables: Annotated[
        str, typer.Option(help='Variables as JSON, which win over the examples: {"name": "Ada"}.')
    ] = "{}",
    html: Annotated[bool, typer.Option("--html", help="Print the HTML alone, as for a browser.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print a letter as its recipient would get it, made with the template's own examples."""
    named = _find(_library(folder, config), name)
    content = _render(named, language=language, variables=json_object("--variables", variables))
    if html:
        print(content.html or "")
        return
    print(f"Template: {named.name}, version {named.version}\nSubject: {content.subject}\n\n{content.text}")


def _library(folder: Path | None, config: Path | None) -> Library:
    if folder is not None:
        return Library(folder)
    known = settings(config).templates.folder
    if not known:
        raise MailerdError("there is no folder of templates: set templates.folder, or give --folder")
    return Library(Path(known))


def _find(library: Library, name: str) -> Named:
    found = library.find(name)
    if found is None:
        known = ", ".join(library.names()) or "none at all"
        raise LibraryError(f"template {name}: there is none of this name with a template.toml; there are {known}")
    return found


def _render(named: Named, *, language: str | None, variables: dict[str, Any]) -> Content:
    given = {**named.variables, **variables, **({"language": language} if language else {})}
    try:
        return named.variants.render(merge(given, None, email="reader@example.com", name="Reader"))
    except RenderError as error:
        where = f" ({language})" if language else ""
        raise LibraryError(f"template {named.name}{where}: {error}") from error
