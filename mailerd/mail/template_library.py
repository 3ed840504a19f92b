"""Templates by name: those of the folder, one folder each, and those of the API.

A version is a digest of contents.
"""

import asyncio
import hashlib
import json
import mimetypes
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol, Self

from mailerd.core.i18n import Text, joined, t
from mailerd.core.owners import Owners
from mailerd.errors import MailerdError
from mailerd.mail.mime import check_content_id, check_content_type, check_filename
from mailerd.mail.renderer import Renderer
from mailerd.mail.templates import (
    NAME,
    RecipientData,
    Source,
    Template,
    TemplateError,
    TemplateErrors,
    choose_language,
)

LANGUAGE: Final = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]{1,8}){0,3}")
"""What a language's folder may be called: a tag in lower case, as zh or zh-tw."""
MAX_FILES: Final = 200
MAX_BYTES: Final = 20_000_000
"""The most bytes of one template, pictures included."""
ABOUT: Final = "template.json"
"""What a template of the API has in place of template.toml."""
IMAGES: Final = "images"
"""The folder of its images, which is no language's."""
_KEYS: Final = frozenset(
    {
        "description",
        "variables",
        "inline_css",
        "language",
        "defaults",
        "required",
        "layout",
        "is_layout",
    }
)
CONTENT: Final = re.compile(r"(<p>)?\{\{\s*content\s*\}\}(?(1)</p>)")
"""The place of the message in a layout; Markdown makes a paragraph of it."""
_PLACE: Final = "{{ content }}"
SAMPLE: Final = "CONTENT"
"""What stands there where a layout is looked at by itself."""
SAMPLE_SOURCE: Final = '{{ "content" | upper }}'
"""It is Jinja, so that a place that Jinja leaves alone is found."""
_GIVEN: Final = frozenset({"email", "name", "language", "unsubscribe_url"})
"""Variables that every message may have without a declaration."""


class TemplateLibraryError(MailerdError):
    """A named template cannot be used; the text names every reason."""


class UnknownVersionError(TemplateLibraryError):
    """There is no such version of a template, or of its layout."""


@dataclass(frozen=True)
class InlineImage:
    """An inline image; its content id is its file's name."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class TemplateSummary:
    """What a list says of a template."""

    name: str
    version: str
    """A digest of all its files: two templates of one version are the same."""
    description: str
    variables: Mapping[str, Any]
    """What it may use besides email, name, language and unsubscribe_url, each with an example."""
    defaults: Mapping[str, Any]
    """What variables are where neither the job nor the recipient has them."""
    required: tuple[str, ...]
    """Variables without which no message is accepted."""
    layout: str | None
    """The template that it is put into."""
    is_layout: bool
    language: str | None
    """The language of the default texts; None where it is not said."""
    languages: tuple[str, ...]
    """Its further languages."""
    pictures: tuple[str, ...]
    subject: str
    """The source of its default subject, or the beginning of it."""

    @classmethod
    def of(
        cls, name: str, version: str, about: Mapping[str, Any], paths: Iterable[str], subject: str
    ) -> Self:
        """What its template.toml, or the like, and the paths of its files say."""
        parts = [path.split("/", 1) for path in paths if "/" in path]
        return cls(
            name=name,
            version=version,
            description=str(about.get("description", "")),
            variables=about.get("variables", {}),
            defaults=about.get("defaults", {}),
            required=tuple(about.get("required", ())),
            layout=about.get("layout") or None,
            is_layout=bool(about.get("is_layout")),
            language=about.get("language") or None,
            languages=tuple(sorted({tag for tag, _ in parts if tag != IMAGES})),
            pictures=tuple(file for tag, file in parts if tag == IMAGES),
            subject=subject,
        )


@dataclass(frozen=True)
class NamedTemplate(TemplateSummary):
    """A template of the library."""

    template: Template
    images: tuple[InlineImage, ...]

    def with_examples(self) -> tuple[Template, list[RecipientData]]:
        """What renders it with its own examples, and one recipient for each language, the default's
        first.
        """
        given = [None, *(json.dumps({"language": tag}) for tag in self.template.languages)]
        template = replace(self.template, variables=self.variables)
        return template, [RecipientData("reader@example.com", "Reader", each) for each in given]


class StoredTemplates(Protocol):
    """The templates of the API: those that are published, and drafts by their version."""

    def seen_by(self, senders: Owners) -> "StoredTemplates":
        """The same, as a key for these senders sees it."""

    async def published(self) -> list[tuple[str, str, str, str, str]]:
        """All that are published, by name: name, version, template.json, paths and sizes of other
        files, subject.
        """

    async def is_archived(self, name: str) -> bool | None:
        """Of one that is not published: whether it was archived; None: it is published, or there is
        none.
        """

    async def files(self, name: str, version: str | None) -> Mapping[str, bytes] | None:
        """The files of a version, or of the published one; None: there is none."""


class TemplateLibrary:
    """The folder, or None where there is none; `where`: what an error calls it, which a client of
    the API reads.

    It is read each time, so that a change counts at once. `stored`: the templates of the API, of
    which the folder's hide those of the same name.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        where: str = "templates.folder",
        stored: StoredTemplates | None = None,
    ) -> None:
        self._folder, self._where, self._stored = folder, where, stored

    def seen_by(self, senders: Owners) -> "TemplateLibrary":
        """The same, as a key for these senders sees it: the folder's belong to all."""
        stored = self._stored.seen_by(senders) if self._stored else None
        return TemplateLibrary(self._folder, where=self._where, stored=stored)

    def names(self) -> list[str]:
        """The name of every template of the folder; none where there is no folder.

        Raises:
            TemplateLibraryError: the folder may not be read.
        """
        if self._folder is None:
            return []
        try:
            return sorted(
                each.name
                for each in self._folder.iterdir()
                if NAME.fullmatch(each.name) and each.is_dir()
            )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise TemplateLibraryError(
                t("templates.folder cannot be read: {strerror}", strerror=error.strerror)
            ) from error

    async def stored(self) -> list[TemplateSummary]:
        """The templates of the API that can be used: published, and of no name that the folder has,
        too.
        """
        if self._stored is None:
            return []
        hidden = set(await asyncio.to_thread(self.names))
        return await asyncio.to_thread(_summaries, await self._stored.published(), hidden)

    async def all_names(self) -> list[str]:
        """Every name that a job can give: a layout is none."""
        layouts = await asyncio.to_thread(self.folders_saying, "is_layout", value=True)
        names = set(await asyncio.to_thread(self.names)).difference(layouts)
        return sorted(names.union(each.name for each in await self.stored() if not each.is_layout))

    def folders_saying(self, key: str, *, value: object) -> list[str]:
        """The templates of the folder whose template.toml has this value for a key."""

        def says(name: str) -> bool:
            try:
                said = tomllib.loads(
                    ((self._folder or Path()) / name / "template.toml").read_text("utf-8-sig")
                )
            except (OSError, ValueError):  # `find` says what is wrong with it
                return False
            return said.get(key) == value

        return [name for name in self.names() if says(name)]

    async def find(self, name: str, version: str | None = None) -> NamedTemplate | None:
        """A template in its layout, as `read` and `in_layout` have it: what is rendered, sent and
        stored with a job.

        `version`: as in `read`; behind a "+" the version of its layout, else that is the published
        one.

        Raises:
            TemplateLibraryError: it cannot be used.
            DatabaseError: the templates of the API cannot be read.
        """
        own, _, of_layout = (version or "").partition("+")
        named = await self.read(name, own or None)
        if named is None or (of_layout and not named.layout):
            return None
        return await self.in_layout(named, of_layout or None)

    async def in_layout(self, named: NamedTemplate, version: str | None = None) -> NamedTemplate:
        """A template as it is sent: in its layout, at this version or the published one; a layout
        with a sample in it.

        Raises:
            TemplateLibraryError: its layout cannot be used.
            DatabaseError: the templates of the API cannot be read.
        """
        if named.is_layout:
            return _with_sample(named)
        if named.layout is None:
            return named
        # The layout of a folder's template belongs to all, as the template does.
        is_folder = named.name in await asyncio.to_thread(self.names)
        layout = await (self.seen_by(frozenset()) if is_folder else self).read(
            named.layout, version
        )
        if layout is None and version:
            raise UnknownVersionError(
                t(
                    "template {name}: its layout {layout!r} has no such version",
                    name=named.name,
                    layout=named.layout,
                )
            )
        if layout is None or not layout.is_layout:
            raise TemplateLibraryError(
                t(
                    "template {name}: {layout!r} is not a published layout",
                    name=named.name,
                    layout=named.layout,
                )
            )
        return _joined(named, layout)

    async def read(self, name: str, version: str | None = None) -> NamedTemplate | None:
        """A template as it was written, or None when there is none of this name.

        `version`: this one, published or not; of a folder there is only what its files say now.

        Raises:
            TemplateLibraryError: it cannot be used.
            DatabaseError: the templates of the API cannot be read.
        """
        found = await asyncio.to_thread(self.in_folder, name)
        if found is None and self._stored is not None and NAME.fullmatch(name):
            files = await self._stored.files(name, version)
            return None if files is None else await asyncio.to_thread(from_files, name, files)
        if found is not None and version not in {None, found.version}:
            raise UnknownVersionError(
                t(
                    "template {name}: its folder has version {version} now",
                    name=name,
                    version=found.version,
                )
            )
        return found

    def in_folder(self, name: str) -> NamedTemplate | None:
        """A template as its files say.

        Raises:
            TemplateLibraryError: it cannot be used.
        """
        if self._folder is None or not NAME.fullmatch(name):
            return None
        try:
            there = (self._folder / name / "template.toml").is_file()
            return from_files(name, dict(_files(self._folder / name))) if there else None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError) as error:
            raise TemplateLibraryError(
                t("template {name}: {error}", name=name, error=str(error))
            ) from error

    async def why_unpublished(self, name: str) -> str | None:
        """Why `find` has found none of this name, and the remedy, where it is a template of the API
        that is not used.

        Raises:
            DatabaseError: the templates of the API cannot be read.
        """
        archived = (
            await self._stored.is_archived(name) if self._stored and NAME.fullmatch(name) else None
        )
        if archived is None:
            return None
        if archived:
            return t("template {name!r} was archived: PUT it again, then publish it", name=name)
        return t(
            "template {name!r} is not published: publish it, or give one of its versions", name=name
        )

    async def why_missing(self, name: str) -> str:
        """Why `find` has found none of this name, and the remedy.

        Raises:
            DatabaseError: the templates of the API cannot be read.
        """
        return (await self.why_unpublished(name)) or self._why_no_folder(name)

    def _why_no_folder(self, name: str) -> str:
        if self._folder is None:
            if self._stored is not None:
                return t(
                    "template {name!r} not found: none of this name is published, and templates.folder is not set",
                    name=name,
                )
            return t("template {name!r} not found: templates.folder is not set", name=name)
        if NAME.fullmatch(name) and (self._folder / name).is_dir():
            return t(
                "the folder {name} in {where} has no template.toml; create one, which may be empty",
                name=name,
                where=self._where,
            )
        return t(
            "template {name!r} not found in {where}; create a folder of this name with template.toml, "
            "subject.txt and body.html",
            name=name,
            where=self._where,
        )


def _summaries(
    rows: Iterable[tuple[str, str, str, str, str]], hidden: Collection[str]
) -> list[TemplateSummary]:
    return [
        TemplateSummary.of(
            name, version, json.loads(about), [path for path, _ in json.loads(files)], subject
        )
        for name, version, about, files, subject in rows
        if name not in hidden
    ]


async def check(named: NamedTemplate, renderer: Renderer, *, origin: str) -> None:
    """Check that a template compiles and declares the variables that it uses.

    Raises:
        TemplateLibraryError: it cannot be used.
        RendererError: it cannot be checked now.
    """
    try:
        used = await renderer.compile(named.template, origin=origin)
    except TemplateErrors as errors:
        raise TemplateLibraryError(
            t("template {name}: {error}", name=named.name, error=str(errors))
        ) from errors
    faults = [
        t(
            "{tag}/: uses {each!r}, which template.toml does not declare under [variables]",
            tag=tag,
            each=each,
        )
        if tag
        else t("uses {each!r}, which template.toml does not declare under [variables]", each=each)
        for tag, each in await asyncio.to_thread(undeclared, named, used)
    ]
    if faults:
        raise TemplateLibraryError(
            t("template {name}: {error}", name=named.name, error=joined(faults))
        )


def undeclared(named: NamedTemplate, used: Mapping[str, frozenset[str]]) -> list[tuple[str, str]]:
    """What each language reads, by `Renderer.compile`, and the template does not declare:
    thousands, if it likes.
    """
    known = _GIVEN.union(named.variables, named.defaults, named.required)
    return [(tag, each) for tag, names in used.items() for each in sorted(names - known)]


def placed(content: str, layout: str) -> str:
    """A source in the source of a layout."""
    return CONTENT.sub(lambda _: content, layout, count=1)


def _joined(named: NamedTemplate, layout: NamedTemplate) -> NamedTemplate:
    """A template in its layout.

    Both are joined before Jinja reads them, so that they are one page with one CSS.

    What both declare, and images of one name, are the template's. Its texts are joined where the
    layout has one; else the text is made of the whole HTML, so that it has header and footer, too.
    """
    wide, own = layout.template, named.template

    def put(tag: str | None, it: Source) -> Source:
        chosen = choose_language(tag, among=wide.languages)
        around = wide.languages[chosen] if chosen else wide.default
        html = it.html and placed(it.html, around.html or "")
        text = (
            placed(it.text, around.text) if it.text and around.text else None if html else it.text
        )
        return Source(it.subject, html, text)

    defaults = {
        name: value for name, value in layout.defaults.items() if name not in named.required
    }
    defaults |= named.defaults
    required = tuple(dict.fromkeys((*layout.required, *named.required)))
    images = {each.filename: each for each in (*layout.images, *named.images)}
    return replace(
        named,
        version=f"{named.version}+{layout.version}",
        variables={**layout.variables, **named.variables},
        defaults=defaults,
        required=required,
        pictures=tuple(images),
        images=tuple(images.values()),
        template=Template(
            put(named.language, own.default),
            {tag: put(tag, each) for tag, each in own.languages.items()},
            wide.inline_css and own.inline_css,
            defaults=defaults,
            required=required,
        ),
    )


def _with_sample(layout: NamedTemplate) -> NamedTemplate:
    def sample(it: Source) -> Source:
        return Source(it.subject, f"<p>{SAMPLE_SOURCE}</p>", it.text and SAMPLE_SOURCE)

    languages = {tag: sample(each) for tag, each in layout.template.languages.items()}
    inside = replace(layout.template, default=sample(layout.template.default), languages=languages)
    return replace(_joined(replace(layout, template=inside), layout), version=layout.version)


def content_errors(parts: Mapping[str, str | None]) -> list[TemplateError]:
    """What is wrong with the place of the message in the parts of a layout, by their names."""
    found = list[TemplateError]()
    for part, source in parts.items():
        places = [*CONTENT.finditer(source or "")]
        if source is not None and not places:
            found.append(
                TemplateError(
                    t("a layout must contain '{place}' once", place=_PLACE), part=part, line=None
                )
            )
        for again in places[1:2]:
            line = (source or "").count("\n", 0, again.start()) + 1
            why = t("contains '{place}' again; a layout has it once", place=_PLACE)
            found.append(TemplateError(why, part=part, line=line))
    return found


def from_files(name: str, files: Mapping[str, bytes]) -> NamedTemplate:
    """A template of its files, by their paths.

    Raises:
        TemplateLibraryError, ValueError: it cannot be used.
    """
    about = (
        json.loads(files[ABOUT]) if ABOUT in files else tomllib.loads(_text(files["template.toml"]))
    )
    faults: list[str] = [
        t("template.toml: unknown key {key!r}", key=key) for key in about if key not in _KEYS
    ]
    variables = about.get("variables", {})
    if not isinstance(variables, dict):
        faults.append(t("template.toml: variables must be a table of examples"))
        variables = {}
    variables = _plain(variables)
    about = about | {"variables": variables, "defaults": _plain(about.get("defaults", {}))}
    faults += _about_faults(about)
    if not isinstance(about.get("language", ""), str):
        faults.append(t("template.toml: language must be a text such as zh or zh-tw"))
    tags = sorted({path.split("/")[0] for path in files if "/" in path} - {IMAGES})
    faults += [
        t("{tag}/: must be a language such as zh or zh-tw", tag=tag)
        for tag in tags
        if not LANGUAGE.fullmatch(tag)
    ]
    sources = {tag: _source(files, f"{tag}/" if tag else "") for tag in ("", *tags)}
    faults += [
        t("{path}: is missing or empty", path=f"{tag}/subject.txt".removeprefix("/"))
        for tag, it in sources.items()
        if not it.subject and not about.get("is_layout")
    ]
    for tag, it in sources.items() if about.get("is_layout") else ():
        errors = content_errors({"body.html": it.html or "", "body.txt": it.text})
        faults += [
            t("{tag}/: {error}", tag=tag, error=str(each)) if tag else str(each) for each in errors
        ]
    images = tuple(_images(files, faults))
    if faults:
        raise TemplateLibraryError(t("template {name}: {error}", name=name, error=joined(faults)))
    summary = TemplateSummary.of(name, _version(files), about, files, sources[""].subject)
    return NamedTemplate(
        **vars(summary),
        template=Template(
            sources.pop(""),
            sources,
            inline_css=bool(about.get("inline_css", True)),
            defaults=summary.defaults,
            required=summary.required,
        ),
        images=images,
    )


def _plain(values: Any) -> Any:
    """TOML has dates and times, which JSON, and so a job's variables, have as texts."""
    return json.loads(json.dumps(values, default=lambda it: it.isoformat(), allow_nan=False))


def _about_faults(about: dict[str, Any]) -> list[str]:
    """What is wrong with the defaults and the layout; what is wrong is taken out."""
    faults, required = list[str](), about.get("required", [])
    if not isinstance(about["defaults"], dict):
        faults.append(t("template.toml: defaults must be a table"))
        about["defaults"] = {}
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        faults.append(t("template.toml: required must be a list of names"))
        about["required"] = required = []
    faults += [why_both(each) for each in required if each in about["defaults"]]
    if not isinstance(about.get("layout", ""), str):
        faults.append(t("template.toml: layout must be the name of a template"))
    if about.get("layout") and about.get("is_layout"):
        faults.append(why_no_layout())
    return faults


def why_both(name: str) -> Text:
    """What is said of a variable that is required and has a default."""
    return t("{name!r} is required and has a default; choose one", name=name)


def why_no_layout() -> Text:
    """What is said of a layout that names another one."""
    return t("a layout cannot have a layout")


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file by its path, in order.

    Hidden files are left out; a link out of the folder is an error.
    """
    root, left, count = folder.resolve(), MAX_BYTES, 0
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if (
            any(part.startswith(".") or part.endswith("~") for part in inside.parts)
            or not path.is_file()
        ):
            continue
        if not path.resolve().is_relative_to(root):
            raise ValueError(t("{inside}: points outside the folder", inside=inside))
        left, count = left - path.stat().st_size, count + 1
        if left < 0 or count > MAX_FILES:
            raise ValueError(why_too_large())
        yield inside.as_posix(), path.read_bytes()


def why_too_large() -> str:
    """What is said of a template that has too many files or bytes."""
    return t(
        "exceeds {max_bytes:,} bytes or {max_files} files", max_bytes=MAX_BYTES, max_files=MAX_FILES
    )


def _source(files: Mapping[str, bytes], where: str) -> Source:
    def part(name: str) -> str | None:
        # programs that prefer HTML would show an empty one
        return _text(files.get(where + name, b"")) or None

    return Source(
        (part("subject.txt") or "").strip(), part("body.html"), part("body.txt"), part("body.md")
    )


def _text(content: bytes) -> str:
    return content.decode("utf-8-sig")  # an editor of Windows may put a byte order mark before it


def _images(files: Mapping[str, bytes], faults: list[str]) -> Iterator[InlineImage]:
    for path, content in files.items():
        if not path.startswith(f"{IMAGES}/"):
            continue
        name = path.removeprefix(f"{IMAGES}/")
        try:
            yield image_of(name, content)
        except ValueError as error:
            faults.append(t("{path}: {error}", path=path, error=str(error)))


def image_of(name: str, content: bytes) -> InlineImage:
    """An image of a template.

    Raises:
        ValueError: it is none, or cannot be named so.
    """
    check_filename(name)
    check_content_id(name)
    kind = check_content_type(mimetypes.guess_type(name, strict=True)[0] or "")
    if not kind.startswith("image/") or not content:
        raise ValueError(t("is not an image"))
    return InlineImage(name, kind, content)


def _version(files: Mapping[str, bytes]) -> str:
    made = hashlib.sha256()
    for path, content in files.items():
        made.update(f"{path}\0{len(content)}\0".encode())
        made.update(content)
    return made.hexdigest()[:16]
