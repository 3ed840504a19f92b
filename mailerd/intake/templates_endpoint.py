"""`/api/templates`: the named templates of both sources, and the versions of those that the API
keeps.

A version never changes. A PUT stores one, which is checked as a folder is; it is used once it is
published.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field

from mailerd.clock import Clock
from mailerd.core.i18n import t
from mailerd.events.actions import Via
from mailerd.http.auth import KeyHandler, KeyShares
from mailerd.http.errors import ApiError, FieldError, cut, invalid
from mailerd.http.requests import BodyReader
from mailerd.http.responses import RETRY_AFTER, json_response, not_found
from mailerd.intake.job_reader import JobReader
from mailerd.intake.request_models import LANGUAGE_SCHEMA, shallow
from mailerd.intake.response_models import BrokenOut, TemplateOut, TemplatesOut
from mailerd.intake.strict_json import parse
from mailerd.mail.template_library import (
    SAMPLE,
    SAMPLE_SOURCE,
    NamedTemplate,
    TemplateLibrary,
    TemplateLibraryError,
    UnknownVersionError,
    check,
    from_files,
    placed,
    undeclared,
)
from mailerd.mail.templates import (
    NAME,
    Content,
    RecipientData,
    RenderError,
    Source,
    TemplateError,
    TemplateErrors,
    language_tag,
)
from mailerd.model.fields import Moment, ResponseModel, Whole
from mailerd.operations import templates
from mailerd.operations.caller import Backend, Caller
from mailerd.operations.inputs import RequestModel, read_model
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.templates import (
    LayoutInUseError,
    NameTakenError,
    NoLayoutError,
    OthersTemplateError,
    TemplateState,
    TemplateStore,
    TooManyTemplatesError,
    VersionMovedError,
)

MAX_BODY: Final = 100_000
"""Bytes of a body that holds no template."""
_OF_NOBODY: Final = dict.fromkeys(
    ("published_by", "published_at", "created_by", "created_at", "senders")
)
"""What a folder does not say."""
_VERSION: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
type TemplateCall = Callable[["TemplatesEndpoint", web.Request, ApiKey], Awaitable[web.Response]]
Version = Annotated[str, Field(pattern=f"^{_VERSION.pattern}$")]

# What requests and responses hold.


class PublishIn(RequestModel):
    """The body of `publish`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": "3f6c1b2a9d40e85c", "expect": None}]}
    )

    version: Annotated[Version, Field(description="the version that jobs get from now on")]
    expect: Annotated[
        Version | None, Field(description="the version that is published now; null: none is")
    ]


class RenderIn(RequestModel):
    """The body of `render`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"variables": {"order": 17, "name": "Ada"}}]}
    )

    version: Annotated[
        Version | None, Field(description="published or not; absent: the published one")
    ] = None
    variables: Annotated[
        Annotated[dict[str, Any], AfterValidator(shallow)] | None,
        Field(description="all variables of the message; absent: the examples of the template"),
    ] = None
    language: Annotated[
        Annotated[str, AfterValidator(language_tag), Field(json_schema_extra=LANGUAGE_SCHEMA)]
        | None,
        Field(description="the recipient's, such as zh or zh-TW"),
    ] = None


class TemplateStateOut(ResponseModel):
    """A named template, and which version of it jobs get."""

    name: str
    source: Annotated[
        Literal["api", "folder"], Field(description="folder: its files are changed, not this API")
    ]
    published: Annotated[str | None, Field(description="the version that jobs get; null: none yet")]
    published_by: Annotated[
        str | None, Field(description="who published it; null: not published, or a folder")
    ]
    published_at: Annotated[
        Moment | None, Field(description="when it was published; null: not published, or a folder")
    ]
    created_by: Annotated[str | None, Field(description="who made it; null: it is a folder")]
    created_at: Annotated[
        Moment | None, Field(description="when it was made; null: it is a folder")
    ]
    senders: Annotated[
        list[str] | None,
        Field(
            description="whose it is, of the key's senders: those of who made it; null: every sender's"
        ),
    ]


class TemplateSavedOut(ResponseModel):
    """The result of a PUT."""

    version: Annotated[
        str, Field(description="a digest of its contents: equal contents are one version")
    ]
    created: Annotated[bool, Field(description="false: this version was there already")]
    published: Annotated[str | None, Field(description="the version that jobs get; null: none yet")]


class TemplatePublishedOut(ResponseModel):
    """The result of `publish`."""

    changed: Annotated[bool, Field(description="false: this version was published already")]
    published: Annotated[str, Field(description="the version that jobs get")]


class TemplateArchivedOut(ResponseModel):
    """The result of a DELETE."""

    archived: Annotated[bool, Field(description="always true")]


class TemplateVersionItemOut(ResponseModel):
    """A version in a list."""

    version: Annotated[str, Field(description="a digest of its contents")]
    published: Annotated[bool, Field(description="whether jobs get it")]
    comment: Annotated[str | None, Field(description="what is new in it; null: not said")]
    created_by: Annotated[str | None, Field(description="who stored it; null: it is a folder")]
    created_at: Annotated[
        Moment | None, Field(description="when it was stored; null: it is a folder")
    ]


class TemplateVersionsOut(ResponseModel):
    """The versions of a template, newest first."""

    versions: Annotated[list[TemplateVersionItemOut], Field(description="the versions")]


class TemplatePartsOut(ResponseModel):
    """The sources of one language."""

    subject: Annotated[str, Field(description="the source of the subject")]
    html: Annotated[str | None, Field(description="the source of the HTML; null: none")]
    text: Annotated[
        str | None, Field(description="the source of the text; null: it is made from the HTML")
    ]
    markdown: Annotated[
        str | None, Field(description="what the HTML was made from; null: it was written as it is")
    ]


class TemplateImageOut(ResponseModel):
    """An image of a template."""

    filename: Annotated[str, Field(description="the HTML shows it as cid: and this name")]
    content_type: Annotated[str, Field(description="its type", examples=["image/png"])]
    bytes: Annotated[Whole, Field(description="its size")]


class TemplateContentOut(TemplatePartsOut):
    """One version of a template."""

    name: str
    version: Annotated[str, Field(description="a digest of its contents")]
    description: str
    language: str | None
    variables: Annotated[dict[str, Any], Field(description="each with an example")]
    layout: Annotated[str | None, Field(description="the template that it is put into; null: none")]
    is_layout: Annotated[
        bool, Field(description="whether other templates are put into it; no job can name it")
    ]
    defaults: Annotated[
        dict[str, Any], Field(description="what variables are that neither job nor recipient has")
    ]
    required: Annotated[
        list[str], Field(description="variables without which a recipient is refused")
    ]
    inline_css: Annotated[
        bool, Field(description="whether the rules of <style> are copied into the elements")
    ]
    languages: Annotated[
        dict[str, TemplatePartsOut],
        Field(
            description="its further languages",
            examples=[{"zh": {"subject": "你好", "html": None, "text": "…", "markdown": None}}],
        ),
    ]
    images: Annotated[
        list[TemplateImageOut], Field(description="its images, without their contents")
    ]


class RenderedOut(ResponseModel):
    """A message as its recipient would read it."""

    version: Annotated[
        str, Field(description="the version that was rendered; behind a +, that of its layout")
    ]
    subject: Annotated[str | None, Field(description="null: variables are missing")]
    html: Annotated[
        str | None, Field(description="null: variables are missing, or it is plain text")
    ]
    text: Annotated[str | None, Field(description="null: variables are missing")]
    missing: Annotated[
        list[str], Field(description="variables that it needs and that were not given")
    ]


def field_of(part: str) -> str:
    """What the body of a PUT calls a part of a template: `languages.zh.html` for zh/html."""
    tag, _, name = part.rpartition("/")
    return f"languages.{tag}.{name}" if tag else name


@dataclass(frozen=True)
class TemplatesEndpoint:
    """The handlers; `bodies` reads those of a PUT.

    `library`, `store`: as the key that asks sees them.
    """

    library: TemplateLibrary
    store: TemplateStore
    reader: JobReader
    shares: KeyShares
    bodies: BodyReader
    backend: Backend
    clock: Clock
    small: BodyReader = field(default_factory=lambda: BodyReader(max_body=MAX_BODY))

    def handlers(self) -> dict[str, KeyHandler]:
        """The handlers by the ids of their operations."""
        it = TemplatesEndpoint
        calls = {
            "listTemplates": it.templates,
            "getTemplate": it.show,
            "saveTemplate": it.put,
            "deleteTemplate": it.archive,
            "listTemplateVersions": it.versions,
            "getTemplateVersion": it.version,
            "publishTemplate": it.publish,
            "renderTemplate": it.render,
        }
        return {name: self._for_key(call) for name, call in calls.items()}

    def seen_by(self, key: ApiKey) -> "TemplatesEndpoint":
        """The same, as a key sees it: what belongs to none of its senders is as good as none."""
        return replace(
            self, library=self.library.seen_by(key.senders), store=self.store.seen_by(key.senders)
        )

    def _for_key(self, call: TemplateCall) -> KeyHandler:
        async def handle(request: web.Request, key: ApiKey) -> web.Response:
            return await call(self.seen_by(key), request, key)

        return handle

    async def templates(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """The named templates."""
        found = TemplatesOut(templates=[], broken=[], drafts=[])
        try:
            names = await asyncio.to_thread(self.library.names)
        except TemplateLibraryError as error:
            raise ApiError(
                503, "renderer_unavailable", str(error), retry_after=RETRY_AFTER
            ) from None
        for name in names:
            try:
                if (named := await self.library.read(name)) is not None:
                    await check(
                        await self.library.in_layout(named),
                        self.reader.renderer,
                        origin="the library",
                    )
                    found.templates.append(TemplateOut.of(named))
            except TemplateLibraryError as error:
                found.broken.append(BrokenOut(name=name, error=cut(str(error))))
        # Those of the API were checked when they were stored.
        found.templates += map(TemplateOut.of, await self.library.stored())
        found.templates.sort(key=lambda each: each.name)
        found.drafts = [each for each in await self.store.drafts() if each not in names]
        return await asyncio.to_thread(json_response, found)

    async def show(self, request: web.Request, key: ApiKey) -> web.Response:
        """One of them."""
        name = request.match_info["name"]
        if folder := await self._in_folder(name):
            return json_response(
                TemplateStateOut(name=name, source="folder", published=folder.version, **_OF_NOBODY)
            )
        state = await self._state(name)
        shown = (
            None
            if state.senders is None
            else sorted(each for each in state.senders if key.may_send(each))
        )
        return json_response(TemplateStateOut(source="api", **vars(state) | {"senders": shown}))

    async def put(self, request: web.Request, key: ApiKey) -> web.Response:
        """Check a template and store it as a version; one that is there already stays as it is."""
        name = await self._changeable(request.match_info["name"])
        async with self.shares.posts.place(key), self.bodies.read(request, key) as raw:
            version, created = await self.save(self._by(key), name, raw, key)
        state = await self.store.state(name)
        return json_response(
            TemplateSavedOut(
                version=version, created=created, published=state.published if state else None
            )
        )

    async def save(self, by: Caller, name: str, raw: bytearray, key: ApiKey) -> tuple[str, bool]:
        """Store the template of a body: its version, and whether that is new.

        Raises:
            ApiError: it was refused.
            RendererError: it cannot be checked now.
        """
        await self._changeable(name)
        named, files, comment = await self.checked(name, raw, key)
        try:
            created = await templates.save(by, name, named.version, files, comment=comment)
        except (TooManyTemplatesError, NameTakenError) as error:
            raise ApiError(409, "conflict", str(error)) from None
        except OthersTemplateError as error:
            raise _others(error) from None
        return named.version, created

    async def checked(
        self, name: str, raw: bytearray, key: ApiKey
    ) -> tuple[NamedTemplate, dict[str, bytes], str | None]:
        """The template of a body, with its files and its comment; it is not stored.

        Raises:
            ApiError: it was refused.
            RendererError: it cannot be checked now.
        """
        async with self.shares.for_check(raw, key):
            async with self.reader.reading(
                raw, now=self.clock.now(), origin=_actor(key)
            ) as reading:
                files, comment = await reading.template()
            raw.clear()
            named = await asyncio.to_thread(from_files, name, files)
            try:
                whole = await self.library.in_layout(named)
            except TemplateLibraryError as error:
                raise invalid([FieldError("layout", str(error))]) from None
            # What is wrong has the lines of what was written: of Markdown before its HTML, of both
            # before the layout.
            sources = _sources(named)
            if named.layout and (errors := _lost_texts(named.layout, sources, whole)):
                raise invalid(errors)
            alone = _with_sources(whole, sources) if named.layout else whole
            markdown = {tag for tag, each in sources.items() if each.markdown}
            written = {
                tag: _as_written(each, is_layout=named.is_layout) for tag, each in sources.items()
            }
            if markdown and (
                errors := await self._errors(
                    _with_sources(alone, written), markdown, origin=_actor(key)
                )
            ):
                raise invalid(errors)
            # In a layout each part has to show the message: without its text, the text is made of
            # its HTML.
            without = {tag: replace(each, text=None) for tag, each in _sources(whole).items()}
            for each in (
                (whole, _with_sources(whole, without)) if named.is_layout else (alone, whole)
            ):
                if errors := await self._errors(each, origin=_actor(key)):
                    raise invalid(errors)
        return named, files, comment

    async def _errors(
        self, named: NamedTemplate, markdown: Collection[str] = (), *, origin: str
    ) -> list[FieldError]:
        """All that keeps a template from being used: it is compiled, and rendered with its
        examples.
        """
        renderer = self.reader.renderer
        try:
            used = await renderer.compile(named.template, origin=origin)
        except TemplateErrors as errors:
            return _field_errors(errors.errors, markdown=markdown)
        found = await asyncio.to_thread(_without_examples, named, used)
        if found:
            return found
        template, readers = named.with_examples()
        rendered = await renderer.render(template, readers, origin=origin)
        for tag, made in zip(("", *template.languages), rendered, strict=True):
            if not isinstance(made, Content):
                found += _field_errors(made, f"{tag}/" if tag else "", markdown)
            elif named.is_layout and SAMPLE not in made.text:
                part = "text" if _sources(named)[tag].text else "html"
                why = t("the layout's message does not show '{place}'", place="{{ content }}")
                found.append(FieldError(field_of(f"{tag}/{part}".removeprefix("/")), why))
        return found

    async def publish(self, request: web.Request, key: ApiKey) -> web.Response:
        """Let jobs get a version from now on, if the one that is published is the expected one."""
        name = await self._changeable(request.match_info["name"])
        async with self.small.read(request, key) as raw:
            asked = read_model(PublishIn, await asyncio.to_thread(parse, raw))
        changed = await self.publish_version(
            self._by(key), name, asked.version, expect=asked.expect
        )
        return json_response(TemplatePublishedOut(changed=changed, published=asked.version))

    async def publish_version(
        self, by: Caller, name: str, version: str, *, expect: str | None
    ) -> bool:
        """Publish a version if `expect` is the one that is published; whether that has changed
        anything.

        Raises:
            ApiError: 409 `version_moved`, another one is; 404, there is no such version; 409, its
            layout cannot be
                used, or others have it for their layout.
        """
        await self._changeable(name)
        layouts = await asyncio.to_thread(self.library.folders_saying, "is_layout", value=True)
        try:
            changed = await templates.publish(
                by, name, version, expect=expect, layouts=layouts, users=await self._users(name)
            )
        except (NoLayoutError, LayoutInUseError) as error:
            raise ApiError(409, "conflict", str(error)) from None
        except OthersTemplateError as error:
            raise _others(error) from None
        except VersionMovedError as error:
            raise ApiError(
                409,
                "version_moved",
                t("{error}; nothing was changed", error=str(error)),
                errors=[FieldError("expect", str(error))],
            ) from None
        if changed is None:
            await self._state(name)
            raise not_found(t("template {name!r} has no such version", name=name))
        return changed

    async def archive(self, request: web.Request, key: ApiKey) -> web.Response:
        """Let the name find nothing any more. Jobs that were posted keep their template."""
        await self.archive_template(self._by(key), request.match_info["name"])
        return json_response(TemplateArchivedOut(archived=True))

    async def archive_template(self, by: Caller, name: str) -> None:
        """Let a name find nothing any more.

        Raises:
            ApiError: 404, it finds nothing; 409, the folder has it, or it is the layout of others.
        """
        await self._changeable(name)
        try:
            if not await templates.archive(by, name, users=await self._users(name)):
                raise _missing(name)
        except LayoutInUseError as error:
            raise ApiError(409, "conflict", str(error)) from None
        except OthersTemplateError as error:
            raise _others(error) from None

    def _by(self, key: ApiKey) -> Caller:
        return Caller(self.backend, Via.API, _actor(key), key)

    async def _users(self, layout: str) -> list[str]:
        """The templates of the folder that are put into a layout."""
        return await asyncio.to_thread(self.library.folders_saying, "layout", value=layout)

    async def versions(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """The versions of one."""
        name = request.match_info["name"]
        if folder := await self._in_folder(name):
            only = TemplateVersionItemOut(
                version=folder.version,
                published=True,
                comment=None,
                created_by=None,
                created_at=None,
            )
            return json_response(TemplateVersionsOut(versions=[only]))
        published = (await self._state(name)).published
        return json_response(
            TemplateVersionsOut(
                versions=[
                    TemplateVersionItemOut(
                        version=it.version,
                        published=it.version == published,
                        comment=it.comment,
                        created_by=it.created_by,
                        created_at=it.created_at,
                    )
                    for it in await self.store.versions(name)
                ]
            )
        )

    async def version(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """A version with its sources."""
        it = await self._find(
            request.match_info["name"], request.match_info["version"], self.library.read
        )
        content = TemplateContentOut(
            name=it.name,
            version=it.version,
            description=it.description,
            language=it.language,
            variables=dict(it.variables),
            defaults=dict(it.defaults),
            required=[*it.required],
            layout=it.layout,
            is_layout=it.is_layout,
            inline_css=it.template.inline_css,
            **vars(it.template.default),
            languages={
                tag: TemplatePartsOut.model_validate(each)
                for tag, each in it.template.languages.items()
            },
            images=[
                TemplateImageOut(
                    filename=each.filename, content_type=each.content_type, bytes=len(each.content)
                )
                for each in it.images
            ],
        )
        return await asyncio.to_thread(json_response, content)

    async def render(self, request: web.Request, key: ApiKey) -> web.Response:
        """The message that a template makes of variables; of what is missing, all of it."""
        async with self.small.read(request, key) as raw, self.shares.checks.place(key):
            asked = read_model(RenderIn, await asyncio.to_thread(parse, raw or b"{}"))
            named = await self._find(request.match_info["name"], asked.version, self.library.find)
            made, missing = await self._rendered(named, asked, origin=_actor(key))
        if isinstance(made, Content) and not missing:
            return await asyncio.to_thread(
                json_response,
                RenderedOut(
                    version=named.version,
                    subject=made.subject,
                    html=made.html,
                    text=made.text,
                    missing=[],
                ),
            )
        if not missing and not isinstance(made, Content):
            raise invalid(_field_errors(made))
        return json_response(
            RenderedOut(
                version=named.version, subject=None, html=None, text=None, missing=sorted(missing)
            )
        )

    async def _rendered(
        self, named: NamedTemplate, asked: RenderIn, *, origin: str
    ) -> tuple[Content | Sequence[RenderError], set[str]]:
        """What it makes, and which variables are missing: in their place it is rendered with its
        examples.

        So all of them are found, although the first one may end the rendering.
        """
        variables = dict(named.variables if asked.variables is None else asked.variables)
        own = json.dumps({"language": asked.language}) if asked.language else None
        reader, missing = (
            RecipientData("reader@example.com", None if asked.variables else "Reader", own),
            set[str](),
        )
        while True:
            try:
                (made,) = await self.reader.renderer.render(
                    replace(named.template, variables=variables), [reader], origin=origin
                )
            except TemplateErrors as errors:
                raise invalid(_field_errors(errors.errors)) from None
            if isinstance(made, Content) or any(not each.variable for each in made):
                return made, missing
            found = {each.variable for each in made} - missing
            if not found:
                return made, missing
            missing |= found
            examples = {"name": "Reader", **named.variables}
            variables |= {
                name: examples[name] for name in (_top(each) for each in found) if name in examples
            }

    async def _in_folder(self, name: str) -> NamedTemplate | None:
        """A template of the folder.

        Raises:
            ApiError: 422, it cannot be used.
        """
        try:
            return await asyncio.to_thread(self.library.in_folder, name)
        except TemplateLibraryError as error:
            raise invalid([FieldError("name", str(error))]) from None

    async def _find(
        self,
        name: str,
        version: str | None,
        find: Callable[[str, str | None], Awaitable[NamedTemplate | None]],
    ) -> NamedTemplate:
        try:
            known = version is None or _VERSION.fullmatch(version)
            found = await find(name, version) if known else None
        except UnknownVersionError as error:
            raise not_found(str(error)) from None
        except TemplateLibraryError as error:
            raise invalid([FieldError("name", str(error))]) from None
        if found is not None:
            return found
        if version is not None:
            raise not_found(t("template {name!r} has no such version", name=name))
        why = await self.library.why_unpublished(name)
        raise not_found(why) if why else _missing(name)

    async def _state(self, name: str) -> TemplateState:
        found = await self.store.state(name) if NAME.fullmatch(name) else None
        if found is None:
            raise _missing(name)
        return found

    async def _changeable(self, name: str) -> str:
        """The name of a template that the API may change.

        Raises:
            ApiError: 422, it cannot be a name; 409, the folder has it.
        """
        if not NAME.fullmatch(name):
            raise invalid(
                [FieldError("name", t("must match the pattern {pattern}", pattern=NAME.pattern))]
            )
        if name in await asyncio.to_thread(self.library.names):
            raise ApiError(
                409,
                "in_folder",
                t(
                    "template {name!r} is a folder in templates.folder, which has priority; change its files",
                    name=name,
                ),
            )
        return name


def _sources(named: NamedTemplate) -> dict[str, Source]:
    return {"": named.template.default, **named.template.languages}


def _with_sources(named: NamedTemplate, sources: Mapping[str, Source]) -> NamedTemplate:
    """A template with what its author has written, so that an error names the author's line."""
    languages = {tag: each for tag, each in sources.items() if tag}
    return replace(
        named,
        template=replace(
            named.template, default=sources[""], languages=languages, inline_css=False
        ),
    )


def _as_written(it: Source, *, is_layout: bool) -> Source:
    """Sources with Markdown in place of the HTML that was made of it; of a layout with a sample in
    its place.
    """
    html = it.markdown or it.html
    if not is_layout:
        return replace(it, html=html)
    return replace(
        it, html=placed(SAMPLE_SOURCE, html or ""), text=it.text and placed(SAMPLE_SOURCE, it.text)
    )


def _lost_texts(
    layout: str, sources: Mapping[str, Source], whole: NamedTemplate
) -> list[FieldError]:
    """The texts that the layout would not show."""
    made = _sources(whole)
    why = t(
        "the layout {layout!r} has no text; leave this empty, and the text is made of the HTML",
        layout=layout,
    )
    return [
        FieldError(field_of(f"{tag}/text".removeprefix("/")), why)
        for tag, each in sources.items()
        if each.text and made[tag].text is None
    ]


def _field_errors(
    errors: Iterable[TemplateError], prefix: str = "", markdown: Collection[str] = ()
) -> list[FieldError]:
    """`markdown`: the languages whose HTML is Markdown."""
    found = list[FieldError]()
    for it in errors:
        tag, _, name = f"{prefix}{it.part}".rpartition("/")
        is_markdown = name == "html" and tag in markdown
        part = f"{it.part.removesuffix('html')}markdown" if is_markdown else it.part
        error = TemplateError(it.reason, part=part, line=it.line) if is_markdown else it
        found.append(FieldError(field_of(prefix + part), str(error)))
    return found


def _without_examples(named: NamedTemplate, used: Mapping[str, frozenset[str]]) -> list[FieldError]:
    """What is wrong with the variables that a template reads and does not declare; it may read very
    many.
    """
    found = list[FieldError]()
    for tag, each in undeclared(named, used):
        part = f"languages.{tag}" if tag else t("the template")
        found.append(
            FieldError(
                "variables",
                t("has no example of {each!r}, which {part} uses", each=each, part=part),
            )
        )
    return found


def _top(path: str) -> str:
    """The variable of a path such as `user.name`."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _actor(key: ApiKey) -> str:
    return f"key:{key.name}"


def _others(error: OthersTemplateError) -> ApiError:
    return ApiError(403, "sender_not_allowed", str(error))


def _missing(name: str) -> ApiError:
    return not_found(t("no template is named {name!r}; see GET /api/templates", name=cut(name, 64)))
