"""`mailerd templates`: whether the named templates can be used, and what a letter of one looks like."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mailerd.cli.common import ConfigOption, json_object, no_log, run_async, settings
from mailerd.cli.output import JsonOption, print_fitting, print_json, table
from mailerd.core.quantities import counted
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Content, RecipientData
from mailerd.texts import tr

app = typer.Typer(help="Check and look at the named templates.", no_args_is_help=True)

_FOLDER = typer.Option(file_okay=False, exists=True, help="The folder; by default templates.folder of the settings.")


@asynccontextmanager
async def rendering() -> AsyncIterator[Renderer]:
    """What renders the templates of a command; what it has to say comes with the command's own errors."""
    async with Renderer("of the command", limits=CHECK_LIMITS, events=RendererEvents(no_log)) as renderer:
        yield renderer


@app.command("list")
def list_templates(
    folder: Annotated[Path | None, _FOLDER] = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the templates that jobs may name; whether they can be used is what `mailerd templates check` says."""
    library = _library(folder, config)
    found, broken = list[dict[str, Any]](), list[str]()
    for name in library.names():
        try:
            it = _find(library, name)
        except MailerdError as error:
            broken.append(f"{name}: {error}")
        else:
            found.append(
                {
                    "name": it.name,
                    "version": it.version,
                    "languages": sorted(it.template.languages),
                    "variables": sorted(it.variables),
                }
            )
    if as_json:
        print_json(found)
    else:
        rows = [[it["name"], it["version"], ", ".join(it["languages"]), ", ".join(it["variables"])] for it in found]
        print_fitting(table(["template", "version", tr("also in"), "variables"], rows, soft={2, 3}))
    for each in broken:
        print(each, file=sys.stderr)
    if broken:
        raise typer.Exit(1)


@app.command("check")
def check(folder: Annotated[Path | None, _FOLDER] = None, config: ConfigOption = None) -> None:
    """Compile every template and render it with its own examples; exit code 1 when one of them cannot be used."""
    library = _library(folder, config)
    names = library.names()
    broken = run_async(_broken(library, names))
    print(tr(f"{len(names)} templates, {broken} that cannot be used"))
    if broken:
        raise typer.Exit(1)


async def _broken(library: TemplateLibrary, names: Sequence[str]) -> int:
    async with rendering() as it:
        return len([name for name in names if not await _passes(library, name, it)])


async def _passes(library: TemplateLibrary, name: str, renderer: Renderer) -> bool:
    try:
        named = _find(library, name)
        for language in (None, *named.template.languages):
            await _render(named, renderer, language=language, variables={})
    except MailerdError as error:
        print(tr(f"FAIL {error}"))
        return False
    also = tr(f", also in {', '.join(sorted(named.template.languages))}") if named.template.languages else ""
    pictures = tr(f", {counted(len(named.images), 'picture')}") if named.images else ""
    print(tr(f"PASS template {name}, version {named.version}{also}{pictures}"))
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
    content = run_async(_preview(named, language=language, variables=json_object("--variables", variables)))
    if html:
        print(content.html or "")
        return
    print(tr(f"Template: {named.name}, version {named.version}\nSubject: {content.subject}\n\n{content.text}"))


def _library(folder: Path | None, config: Path | None) -> TemplateLibrary:
    if folder is not None:
        return TemplateLibrary(folder)
    known = settings(config).templates.folder
    if not known:
        raise MailerdError("there is no folder of templates: set templates.folder, or give --folder")
    return TemplateLibrary(Path(known))


def _find(library: TemplateLibrary, name: str) -> NamedTemplate:
    found = library.find(name)
    if found is None:
        known = ", ".join(library.names()) or tr("none at all")
        raise TemplateLibraryError(
            f"template {name}: there is none of this name with a template.toml; there are {known}"
        )
    return found


async def _preview(named: NamedTemplate, *, language: str | None, variables: dict[str, Any]) -> Content:
    async with rendering() as it:
        return await _render(named, it, language=language, variables=variables)


async def _render(
    named: NamedTemplate, renderer: Renderer, *, language: str | None, variables: dict[str, Any]
) -> Content:
    await check_named(named, renderer, origin=tr("the command"))
    given = {**named.variables, **variables, **({"language": language} if language else {})}
    template = replace(named.template, variables=given)
    (made,) = await renderer.render(
        template, [RecipientData("reader@example.com", "Reader", None)], origin=tr("the command")
    )
    if isinstance(made, Content):
        return made
    where = f" ({language})" if language else ""
    raise TemplateLibraryError(f"template {named.name}{where}: {made[0]}")
