"""The route of every path that no endpoint serves."""

from aiohttp import web


async def no_such_path(request: web.Request) -> web.StreamResponse:
    """The 404, or the 405 where another method is served at this path.

    A route of our own, since aiohttp's 404 has an own answer to `Expect`, which breaks where the header is no text.
    """
    methods = set[str]()
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        methods |= allowed
    methods.discard("*")
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, sorted(methods))
    raise web.HTTPNotFound
