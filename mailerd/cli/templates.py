"""`mailerd templates`: whether the named templates can be used, and what a message of one looks like."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mailerd.cli.common import ConfigOption, json_object, no_log, run_async, settings
from mailerd.cli.output import JsonOption, echo, print_json
from mailerd.cli.tables import print_fitting, table
from mailerd.core.i18n import joined, t, tn
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Content, RecipientData

app = typer.Typer(help="Check, list and preview the named templates.", no_args_is_help=True)

_FOLDER = typer.Option(file_okay=False, exists=True, help="The folder. Default: templates.folder of the configuration.")


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
    """List the named templates. `mailerd templates check` shows whether they can be used."""
    library = _library(folder, config)
    found, broken = list[dict[str, Any]](), list[str]()
    for name in library.names():
        try:
            it = _find(library, name)
        except MailerdError as error:
            broken.append(joined([name, str(error)], ": "))
        else:
            found.append(
                {
                    "name": it.name,
                    "version": it.version,
                    "languages": _languages(it),
                    "variables": sorted(it.variables),
                }
            )
    if as_json:
        print_json(found)
    else:
        rows = [[it["name"], it["version"], ", ".join(it["languages"]), ", ".join(it["variables"])] for it in found]
        print_fitting(table([t("Template"), t("Version"), t("Languages"), t("Variables")], rows, soft={2, 3}))
    for each in broken:
        echo(each, err=True)
    if broken:
        raise typer.Exit(1)


def _languages(it: NamedTemplate) -> list[str]:
    """Every language that it has; that of its default texts first, as far as it is said."""
    return [*([it.language] if it.language else []), *sorted(it.template.languages)]


@app.command("check")
def check(folder: Annotated[Path | None, _FOLDER] = None, config: ConfigOption = None) -> None:
    """Compile every template and render it with its own examples. The exit code is 1 when one cannot be used."""
    library = _library(folder, config)
    names = library.names()
    broken = run_async(_broken(library, names))
    checked = tn("{n:,} template checked", "{n:,} templates checked", len(names))
    echo(joined([checked, t("{n:,} not usable", n=broken) if broken else t("all usable")], ", "))
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
        echo(t("FAIL {error}", error=str(error)))
        return False
    parts = [t("PASS template {name}", name=name), t("version {version}", version=named.version)]
    if languages := _languages(named):
        parts.append(t("languages: {languages}", languages=joined(languages, ", ")))
    if named.images:
        parts.append(tn("{n} image", "{n} images", len(named.images)))
    echo(joined(parts, ", "))
    return True


@app.command("preview")
def preview(
    name: Annotated[str, typer.Argument(help="The name of the template.")],
    *,
    folder: Annotated[Path | None, _FOLDER] = None,
    language: Annotated[str | None, typer.Option(help="The language of the recipient.")] = None,
    variables: Annotated[
        str, typer.Option(help='Variables as JSON, in place of the examples: {"name": "Ada"}.')
    ] = "{}",
    html: Annotated[bool, typer.Option("--html", help="Print only the HTML, as for a browser.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print a message as its recipient would get it, made with the examples of the template."""
    named = _find(_library(folder, config), name)
    content = run_async(_preview(named, language=language, variables=json_object("--variables", variables)))
    if html:
        print(content.html or "")
        return
    echo(t("Template: {name}, version {version}", name=named.name, version=named.version))
    echo(t("Subject: {subject}", subject=content.subject))
    echo(f"\n{content.text}")


def _library(folder: Path | None, config: Path | None) -> TemplateLibrary:
    if folder is not None:
        return TemplateLibrary(folder)
    known = settings(config).templates.folder
    if not known:
        raise MailerdError(t("templates.folder is not set: set it, or give --folder"))
    return TemplateLibrary(Path(known))


def _find(library: TemplateLibrary, name: str) -> NamedTemplate:
    found = library.find(name)
    if found is None:
        known = ", ".join(library.names()) or t("none")
        raise TemplateLibraryError(
            t("template {name} not found (a folder with a template.toml). Available: {names}", name=name, names=known)
        )
    return found


async def _preview(named: NamedTemplate, *, language: str | None, variables: dict[str, Any]) -> Content:
    async with rendering() as it:
        return await _render(named, it, language=language, variables=variables)


async def _render(
    named: NamedTemplate, renderer: Renderer, *, language: str | None, variables: dict[str, Any]
) -> Content:
    await check_named(named, renderer, origin=t("the command"))
    given = {**named.variables, **variables, **({"language": language} if language else {})}
    template = replace(named.template, variables=given)
    (made,) = await renderer.render(
        template, [RecipientData("reader@example.com", "Reader", None)], origin=t("the command")
    )
    if isinstance(made, Content):
        return made
    name = f"{named.name} ({language})" if language else named.name
    raise TemplateLibraryError(t("template {name}: {error}", name=name, error=str(made[0])))
