"""`GET /api/templates`: the named templates, and why some cannot be used."""

import asyncio

from aiohttp import web

from mailerd.http.errors import ApiError, cut
from mailerd.http.responses import RETRY_AFTER, json_response
from mailerd.intake.response_models import BrokenOut, TemplateOut, TemplatesOut
from mailerd.mail.renderer import Renderer
from mailerd.mail.template_library import TemplateLibrary, TemplateLibraryError, check
from mailerd.store.api_keys import ApiKey


class TemplatesEndpoint:
    """The endpoint."""

    def __init__(self, *, library: TemplateLibrary, renderer: Renderer) -> None:
        self._library = library
        self._renderer = renderer

    async def templates(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """The named templates."""
        found = TemplatesOut(templates=[], broken=[])
        try:
            names = await asyncio.to_thread(self._library.names)
        except TemplateLibraryError as error:
            raise ApiError(503, "renderer_unavailable", str(error), retry_after=RETRY_AFTER) from None
        for name in names:
            try:
                if (named := await asyncio.to_thread(self._library.find, name)) is not None:
                    await check(named, self._renderer, origin="the library")
                    found.templates.append(TemplateOut.of(named))
            except TemplateLibraryError as error:
                found.broken.append(BrokenOut(name=name, error=cut(str(error))))
        return json_response(found)
