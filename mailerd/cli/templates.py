"""`mailerd templates`: whether the named templates can be used, and what a message of one looks
like.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mailerd.cli.common import ConfigOption, json_object, no_log, run_async, settings
from mailerd.cli.output import JsonOption, echo, print_json
from mailerd.cli.tables import print_fitting, table
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Content, RecipientData

app = typer.Typer(help="Check, list and preview the named templates.", no_args_is_help=True)

_FOLDER = typer.Option(
    file_okay=False, exists=True, help="The folder. Default: templates.folder of the configuration."
)


@asynccontextmanager
async def rendering() -> AsyncIterator[Renderer]:
    """What renders the templates of a command; what it has to say comes with the command's own
    errors.
    """
    async with Renderer(
        "of the command", limits=CHECK_LIMITS, events=RendererEvents(no_log)
    ) as renderer:
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
    found, broken = list[NamedTemplate](), dict[str, str]()
    for name in library.names():
        try:
            found.append(_find(library, name))
        except MailerdError as error:
            broken[name] = str(error)
    if as_json:
        _print_found(found, broken)
    else:
        rows = [
            [it.name, it.version, ", ".join(_languages(it)), ", ".join(sorted(it.variables))]
            for it in found
        ]
        print_fitting(
            table([t("Template"), t("Version"), t("Languages"), t("Variables")], rows, soft={2, 3})
        )
        for name, why in broken.items():
            echo(joined([name, why], ": "), err=True)
    if broken:
        raise typer.Exit(1)


def _print_found(found: Sequence[NamedTemplate], broken: Mapping[str, str]) -> None:
    """Print templates as the API does."""
    from mailerd.intake.response_models import BrokenOut, TemplateOut, TemplatesOut  # noqa: PLC0415 - slow to import

    unusable = [BrokenOut(name=name, error=why) for name, why in broken.items()]
    print_json(
        TemplatesOut(templates=[TemplateOut.of(it) for it in found], broken=unusable, drafts=[])
    )


def _languages(it: NamedTemplate) -> list[str]:
    """Every language that it has; that of its default texts first, as far as it is said."""
    return [*([it.language] if it.language else []), *sorted(it.template.languages)]


@app.command("check")
def check(
    folder: Annotated[Path | None, _FOLDER] = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Compile every template and render it with its own examples. The exit code is 1 when one cannot be used."""
    found, broken = run_async(_check(_library(folder, config), tell=not as_json))
    if as_json:
        _print_found(found, broken)
    else:
        checked = tn("{n:,} template checked", "{n:,} templates checked", len(found) + len(broken))
        echo(
            joined(
                [checked, t("{n:,} not usable", n=len(broken)) if broken else t("all usable")], ", "
            )
        )
    if broken:
        raise typer.Exit(1)


async def _check(
    library: TemplateLibrary, *, tell: bool
) -> tuple[list[NamedTemplate], dict[str, str]]:
    """The usable templates, and why each of the others is not; `tell`: a line of each, as soon as
    it is checked.
    """
    found, broken = list[NamedTemplate](), dict[str, str]()
    async with rendering() as renderer:
        for name in library.names():
            try:
                named = await library.in_layout(_find(library, name))
                for language in (None, *named.template.languages):
                    await _render(named, renderer, language=language, variables={})
            except MailerdError as error:
                broken[name] = str(error)
                line = t("FAIL {error}", error=str(error))
            else:
                found.append(named)
                line = _passed(named)
            if tell:
                echo(line)
    return found, broken


def _passed(named: NamedTemplate) -> Text:
    parts = [
        t("PASS template {name}", name=named.name),
        t("version {version}", version=named.version),
    ]
    if languages := _languages(named):
        parts.append(t("languages: {languages}", languages=joined(languages, ", ")))
    if named.images:
        parts.append(tn("{n} image", "{n} images", len(named.images)))
    return joined(parts, ", ")


@app.command("preview")
def preview(
    name: Annotated[str, typer.Argument(help="The name of the template.")],
    *,
    folder: Annotated[Path | None, _FOLDER] = None,
    language: Annotated[str | None, typer.Option(help="The language of the recipient.")] = None,
    variables: Annotated[
        str, typer.Option(help='Variables as JSON, in place of the examples: {"name": "Ada"}.')
    ] = "{}",
    html: Annotated[
        bool, typer.Option("--html", help="Print only the HTML, as for a browser.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print a message as its recipient would get it, made with the examples of the template."""
    if html and as_json:
        raise typer.BadParameter(t("cannot be combined with --json"), param_hint="--html")
    library = _library(folder, config)
    named = run_async(library.in_layout(_find(library, name)))
    content = run_async(
        _preview(named, language=language, variables=json_object("--variables", variables))
    )
    if html:
        print(content.html or "")
        return
    if as_json:
        shown = {"name": named.name, "version": named.version, "language": language}
        print_json(shown | {"subject": content.subject, "html": content.html, "text": content.text})
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
    found = library.in_folder(name)
    if found is None:
        known = ", ".join(library.names()) or t("none")
        raise TemplateLibraryError(
            t(
                "template {name} not found (a folder with a template.toml). Available: {names}",
                name=name,
                names=known,
            )
        )
    return found


async def _preview(
    named: NamedTemplate, *, language: str | None, variables: dict[str, Any]
) -> Content:
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
