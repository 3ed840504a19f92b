"""The reference of the API: a page for each group of operations, made from the OpenAPI document."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pprint import pformat
from textwrap import indent
from typing import Any, Final

from mailerd.core.i18n import N_, Text, t, verbatim
from mailerd.http.responses import CODES
from mailerd.intake.docs.markdown import Page, PageSection
from mailerd.intake.openapi import PREFIX, TAGS, example_of
from mailerd.locale import say
from mailerd.mail.templates import ONE_LINE, ONE_NAME

GROUPS: Final = {
    "jobs": (N_("Jobs"), ("jobs", "search", "stats")),
    "messages": (N_("Messages"), ("messages",)),
    "recipients": (N_("Recipients"), ("recipients",)),
    "templates": (N_("Templates"), ("templates",)),
    "senders": (N_("Senders and keys"), ("senders", "key")),
    "suppressions": (N_("Suppressions and lists"), ("suppressions", "lists")),
    "webhooks": (N_("Webhooks and events"), ("webhooks", "events")),
    "health": (N_("Health"), ("health",)),
}
"""The pages: the title of each, and the tags of its operations."""
SERVER: Final = "http://@SERVER@"
"""The address of this server in the examples: each answer fills it in."""
_ERROR_MODELS: Final = ("ErrorOut", "FailureOut", "DetailOut")
"""They are on the first page, to which all others lead."""
_LONGEST_EXAMPLE: Final = 60

type Operation = tuple[str, str, dict[str, Any]]
"""Method, path and what the document says of it."""


def pages(document: Mapping[str, Any]) -> dict[str, Page]:
    """All pages by their names, in the language of this context."""
    schemas = document["components"]["schemas"]
    operations: list[Operation] = [
        (method.upper(), path, it)
        for path, methods in document["paths"].items()
        for method, it in methods.items()
    ]
    groups = {
        name: [each for tag in tags for each in operations if tag in each[2]["tags"]]
        for name, (_, tags) in GROUPS.items()
    }
    made = {"api": _start(document, groups)}
    for name, of_group in groups.items():
        made[f"api/{name}"] = _group(name, of_group, schemas)
    return made


def words(text: str) -> str:
    """A text of the document as HTML, in the language of its reader; what is between backticks is
    code.
    """
    said = say(text if isinstance(text, Text) else verbatim(text))
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(said))


def _start(document: Mapping[str, Any], groups: Mapping[str, list[Operation]]) -> Page:
    schemas = document["components"]["schemas"]
    title = say(t("API reference"))
    with_key = t(
        "All calls except `/health/…` need a key, in `X-API-Key` or as `Authorization: Bearer`. For programs:"
    )
    about = words(document["info"]["description"])
    intro = f'<p>{about} {words(with_key)} <a href="/openapi.json">openapi.json</a></p>'
    lists = "".join(
        f'<h2 id="{name}"><a href="/docs/api/{name}">{say(t(GROUPS[name][0]))}</a></h2><ul class="calls">'
        + "".join(
            f'<li><a href="/docs/api/{name}#{it["operationId"]}">{words(it["summary"])}</a>{_call(method, path)}</li>'
            for method, path, it in operations
        )
        + "</ul>"
        for name, operations in groups.items()
    )
    rows = [(f"<code>{code}</code>", words(meaning)) for code, meaning in sorted(CODES.items())]
    codes = say(t("Error codes"))
    models = "".join(_object(name, schemas) for name in _ERROR_MODELS)
    errors = f'<h2 id="errors">{codes}</h2>{_table((t("Code"), t("Meaning")), rows)}'
    html = f"<h1>{title}</h1>{intro}{lists}{errors}{models}"
    sections = [
        PageSection("", title, 1, say(document["info"]["description"])),
        *(PageSection(name, say(t(GROUPS[name][0])), 2, "") for name in groups),
        PageSection(
            "errors",
            codes,
            2,
            " ".join(f"{code} {say(verbatim(text))}" for code, text in CODES.items()),
        ),
        *(PageSection(name, name, 3, "") for name in _ERROR_MODELS),
    ]
    return Page(title, html, tuple(sections))


def _group(name: str, operations: list[Operation], schemas: Mapping[str, Any]) -> Page:
    title, tags = GROUPS[name]
    said = say(t("API: {group}", group=t(title)))
    about = " ".join(f"<p>{words(TAGS[tag])}</p>" for tag in tags)
    models = sorted(_reachable(json.dumps([it for _, _, it in operations], default=str), schemas))
    html = f"<h1>{said}</h1>{about}" + "".join(_operation(*each, schemas) for each in operations)
    if models:
        html += f'<h2 id="objects">{say(t("Objects"))}</h2>' + "".join(
            _object(each, schemas) for each in models
        )
    sections = [PageSection("", said, 1, " ".join(say(verbatim(TAGS[tag])) for tag in tags))]
    for method, path, it in operations:
        fields = " ".join(each["name"] for each in it["parameters"])
        text = f"{method} {path} {it['operationId']} {say(it['description'])} {fields}"
        sections.append(PageSection(it["operationId"], say(it["summary"]), 2, text))
    if models:
        sections.append(PageSection("objects", say(t("Objects")), 2, ""))
    sections += [
        PageSection(each, each, 3, " ".join(schemas[each].get("properties", ()))) for each in models
    ]
    return Page(said, html, tuple(sections))


def _reachable(text: str, schemas: Mapping[str, Any]) -> set[str]:
    """The models that a part of the document names, and those that they name."""
    found: set[str] = set()
    new = set(re.findall(rf"{PREFIX}(\w+)", text))
    while new:
        found |= new
        named = json.dumps([schemas[each] for each in new], default=str)
        new = set(re.findall(rf"{PREFIX}(\w+)", named)) - found
    return found - {*_ERROR_MODELS}


def _call(method: str, path: str) -> str:
    """The badge of a method and its path, which never run into one another."""
    return f'<span class="call"><b class="method {method.lower()}">{method}</b> <code>{escape(path)}</code></span>'


def _operation(method: str, path: str, it: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    name = it["operationId"]
    parts = [
        f'<section class="operation"><h2 id="{name}"><a href="#{name}">{words(it["summary"])}</a></h2>',
        f"<p>{_call(method, path)}</p>",
        f"<p>{words(it['description'])}</p>" if it["description"] else "",
        f'<p class="soft">{say(t("permission"))} <code>{it["x-call"]}</code></p>'
        if "x-call" in it
        else "",
    ]
    body = it.get("requestBody", {}).get("content", {}).get("application/json")
    parts.append(_examples(name, method, path, body["example"] if body else None))
    if it["parameters"]:
        rows = [
            (
                f"<code>{escape(each['name'])}</code>{_required(yes=each.get('required', False))}",
                each["in"],
                _type(each["schema"]),
                words(each.get("description", "")),
            )
            for each in it["parameters"]
        ]
        parts += [
            f"<h3>{say(t('Parameters'))}</h3>",
            _table((t("Name"), t("In"), t("Type"), t("Meaning")), rows),
        ]
    if body:
        model = body["schema"]["$ref"].removeprefix(PREFIX)
        parts.append(
            f"<h3>{say(t('Request body'))}: {_type(body['schema'])}</h3>{_fields(schemas[model], schemas)}"
        )
    answers = [
        (f"<b>{status}</b>", words(each["description"]), _response_type(each))
        for status, each in it["responses"].items()
    ]
    parts += [
        f"<h3>{say(t('Responses'))}</h3>",
        _table((t("Status"), t("Meaning"), t("Body")), answers),
    ]
    example = next(iter(it["responses"]["200"]["content"].values()))["example"]
    shown = example if isinstance(example, str) else _json(example)
    parts.append(_details(t("Example response"), shown))
    return "".join(parts) + "</section>"


def _required(*, yes: bool) -> str:
    return f' <i class="required">{say(t("required"))}</i>' if yes else ""


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{say(each)}</th>' for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _object(name: str, schemas: Mapping[str, Any]) -> str:
    schema = schemas[name]
    about = f"<p>{words(schema['description'])}</p>" if "description" in schema else ""
    shown = f"<p>{_type(schema)}</p>" if "enum" in schema else _fields(schema, schemas)
    return f'<section><h3 id="{name}">{name}</h3>{about}{shown}</section>'


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The fields of an object, each with its type, its meaning and default, and an example."""
    needed = set(schema.get("required", ()))
    rows = []
    for name, it in schema.get("properties", {}).items():
        example = json.dumps(example_of(it, schemas, name=name), ensure_ascii=False)
        shown = (
            f"<code>{escape(example)}</code>"
            if len(example) <= _LONGEST_EXAMPLE and example != "null"
            else ""
        )
        named = f"<code>{escape(name)}</code>{_required(yes=name in needed)}"
        rows.append((named, _type(it), words(it.get("description", "")), shown))
    return _table((t("Field"), t("Type"), t("Meaning"), t("Example")), rows) if rows else ""


def _response_type(response: Mapping[str, Any]) -> str:
    return "<br>".join(
        f"{escape(kind)}: {_type(it['schema'])}" for kind, it in response.get("content", {}).items()
    )


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(PREFIX))
        return f'<a href="{"/docs/api" if name in _ERROR_MODELS else ""}#{name}">{name}</a>'
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return say(t(" or ")).join(_type(each) for each in schema[either])
    if "enum" in schema or "const" in schema:
        return " | ".join(escape(str(each)) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return say(t("list of {kind}", kind=_type(schema.get("items", {}))))
    bounds = [
        say(t(bound, n=schema[key]))
        for key, bound in _BOUNDS.items()
        if schema.get(key, ONE_LINE) not in _OF_COURSE
    ]
    return escape(" ".join([str(schema.get("format") or schema.get("type", "anything")), *bounds]))


_BOUNDS: Final = {
    "minimum": N_("from {n}"),
    "maximum": N_("to {n}"),
    "minLength": N_("at least {n}"),
    "maxLength": N_("at most {n}"),
    "pattern": N_("like {n}"),
    "maxItems": N_("at most {n}"),
    "minItems": N_("at least {n}"),
    "default": N_("default {n}"),
}
_OF_COURSE: Final = frozenset({ONE_LINE, ONE_NAME})
"""Patterns that say only that a line has no control character."""


# A call at a terminal, in Python and in a browser or Node; `body` None: it has none.


def _examples(name: str, method: str, path: str, body: object) -> str:
    path += _QUERIES.get(name, "")
    made = {
        "curl": curl(method, path, body),
        "Python": python(name, method, path, body),
        "JavaScript": javascript(method, path, body),
    }
    shown = (
        _details(tool, text, is_open=tool == "curl", group=name) for tool, text in made.items()
    )
    return f'<div class="examples">{"".join(shown)}</div>'


def _details(title: str, text: str, *, is_open: bool = False, group: str = "") -> str:
    name = f' name="{group}"' if group else ""
    return (
        f"<details{name}{' open' if is_open else ''}><summary>{say(title)}</summary>"
        f"<pre><code>{escape(text, quote=False)}</code></pre></details>"
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def curl(method: str, path: str, body: object, server: str = SERVER) -> str:
    """A call as it is made at a terminal."""
    url = server + _with_email(path).replace("{id}", f"${_whose_id(path)}")
    verb = "" if method == ("GET" if body is None else "POST") else f"-X {method} "
    key = "" if path.startswith("/health") else '-H "X-API-Key: $KEY" '
    if body is None:
        return f'curl {"-N " if path.endswith(_STREAMS) else ""}{verb}{key}"{url}"'
    call = f'curl {verb}{key}-H "Content-Type: application/json" --data-binary @- "{url}"'
    return f"{call} <<'JSON'\n{_json(body)}\nJSON"


_CLIENT: Final = {
    "createJob": "print(mailerd.create_job({body}))",
    "dryRunJob": "print(mailerd.dry_run({body}))",
    "testJob": 'test = {body}\nprint(mailerd.test_job(test["job"], test["to"]))',
    "sendMessage": "print(mailerd.send_message({body}))",
    "getMessage": "print(mailerd.message({id}))",
    "listJobs": 'for each in mailerd.jobs(status="sending"):\n    print(each["job_id"], each["counts"])',
    "getJob": "print(mailerd.job({id}))",
    "listRecipients": 'for each in mailerd.recipients({id}):\n    print(each["email"], each["status"])',
    "downloadResults": 'mailerd.results_csv({id}, "results.csv")',
    "listJobActions": "print(mailerd.actions({id}))",
    "streamJobEvents": 'for each in mailerd.watch({id}):\n    print(each["status"], each["counts"])',
    "changeJob": "print(mailerd.change_job({id}, priority=5))",
    "cancelJob": "print(mailerd.cancel_job({id}))",
    "pauseJob": "print(mailerd.pause_job({id}))",
    "resumeJob": "print(mailerd.resume_job({id}))",
    "retryJob": 'print(mailerd.retry_job({id}, only="failed"))',
    "setJobPriority": "print(mailerd.set_priority({id}, 5))",
    "findRecipients": 'for each in mailerd.find_recipients("ada@example.com"):\n    print(each["job_id"])',
    "getRecipient": "print(mailerd.recipient({id}))",
    "getRecipientMessage": "print(mailerd.recipient_message({id}))",
    "settleRecipient": "print(mailerd.settle({id}, sent=True, attempt=1))",
    "cancelRecipient": "print(mailerd.cancel_recipient({id}))",
    "search": 'print(mailerd.search("order-1"))',
    "getStats": 'print(mailerd.stats(by="sender"))',
    "listEvents": 'for each in mailerd.events(after=0):\n    print(each["id"], each["type"])',
    "streamEvents": 'for each in mailerd.stream_events(after=0):\n    print(each["id"], each["type"])',
    "listTemplates": "print(mailerd.templates())",
    "getTemplate": 'print(mailerd.template("welcome"))',
    "saveTemplate": 'print(mailerd.save_template("welcome", {body}))',
    "deleteTemplate": 'print(mailerd.delete_template("welcome"))',
    "listTemplateVersions": 'print(mailerd.template_versions("welcome"))',
    "getTemplateVersion": 'print(mailerd.template_version("welcome", "3f6c1b2a9d40e85c"))',
    "publishTemplate": 'print(mailerd.publish_template("welcome", "3f6c1b2a9d40e85c", expect=None))',
    "renderTemplate": 'print(mailerd.render_template("welcome", variables={"order": 17, "name": "Ada"}))',
    "listSenders": 'for each in mailerd.senders():\n    print(each["email"], each["state"])',
    "getSender": "print(mailerd.sender({email}))",
    "pauseSender": 'print(mailerd.pause_sender({email}, seconds=3600, reason="maintenance"))',
    "resumeSender": "print(mailerd.resume_sender({email}))",
    "changeSender": "print(mailerd.change_sender({email}, per_day=1500, reserve=None))",
    "getKey": "print(mailerd.key())",
    "listSuppressions": 'for each in mailerd.suppressions():\n    print(each["email"], each["reason"])',
    "downloadSuppressions": 'mailerd.suppressions_csv("suppressions.csv")',
    "addSuppressions": 'print(mailerd.suppress([{"email": "ada@example.com"}]))',
    "removeSuppression": 'print(mailerd.unsuppress("ada@example.com"))',
    "listMailingLists": "print(mailerd.lists())",
    "saveMailingList": 'print(mailerd.save_list("news", title="News"))',
    "listWebhooks": "print(mailerd.webhooks())",
    "createWebhook": 'print(mailerd.create_webhook("crm", "https://crm.example.com/mailerd"))',
    "getWebhook": "print(mailerd.webhook({id}))",
    "changeWebhook": 'print(mailerd.change_webhook({id}, state="paused"))',
    "deleteWebhook": "print(mailerd.delete_webhook({id}))",
    "listWebhookDeliveries": 'for each in mailerd.webhook_deliveries({id}):\n    print(each["event"], each["status"])',
    "rotateWebhookSecret": "print(mailerd.rotate_webhook_secret({id}))",
    "testWebhook": "print(mailerd.test_webhook({id}))",
    "replayWebhook": 'print(mailerd.replay_webhook({id}, since="2026-12-01T09:00:00Z"))',
}
"""The calls of mailerd.client, by the ids of the operations; for others there is requests."""
_QUERIES: Final = {
    "search": "?q=order-1",
    "findRecipients": "?email=ada@example.com",
    "getStats": "?by=sender",
}
"""What calls say behind their path where they need it, or show little without."""
_STREAMS: Final = ("/{id}/events", "/events/stream")
"""How the paths end that answer with server-sent events."""


def _whose_id(path: str) -> str:
    """The variable that has the `{id}` of a path."""
    return {"recipients": "RECIPIENT", "webhooks": "WEBHOOK"}.get(path.split("/")[2], "JOB")


def _id_in_python(path: str) -> str:
    found = f'os.environ["{_whose_id(path)}"]'
    return f"int({found})" if path.startswith("/api/recipients") else found


def _with_email(path: str) -> str:
    """A path of an example: a sender has another address than a recipient."""
    path = path.replace("{name}", "order").replace("{version}", "3f6c1b2a9d40e85c")
    return path.replace(
        "{email}", "me@example.com" if path.startswith("/api/senders") else "ada@example.com"
    )


def python(name: str, method: str, path: str, body: object, server: str = SERVER) -> str:
    """A call in Python."""
    given = pformat(body, indent=4, width=88, sort_dicts=False)
    if name in _CLIENT:
        call = indent(
            _CLIENT[name]
            .replace("{id}", _id_in_python(path))
            .replace("{email}", '"me@example.com"')
            .replace("{body}", given),
            "    ",
        )
        return (
            "import os\n\nfrom mailerd.client import Client\n\n"
            f'with Client("{server}", key=os.environ["KEY"]) as mailerd:\n{call}'
        )
    url = f'"{server}{_with_email(path)}"'
    if "{id}" in url:
        url = "f" + url.replace("{id}", f"{{os.environ['{_whose_id(path)}']}}")
    key = "" if path.startswith("/health") else '    headers={"X-API-Key": os.environ["KEY"]},\n'
    sent = "" if body is None else f"    json={given},\n"
    shown = f"print(response.{'text' if path.endswith('.csv') else 'json()'})"
    if path.endswith(_STREAMS):
        sent, shown = (
            "    stream=True,\n",
            "for line in response.iter_lines(decode_unicode=True):\n    print(line)",
        )
    return (
        f"import os\n\nimport requests\n\nresponse = requests.{method.lower()}(\n    {url},\n{key}{sent}"
        f"    timeout=30,\n)\n{shown}"
    )


def javascript(method: str, path: str, body: object, server: str = SERVER) -> str:
    """A call in JavaScript, as Node and browsers make it."""
    url = f'"{server}{_with_email(path)}"'
    if "{id}" in url:
        url = url.replace("{id}", f"${{process.env.{_whose_id(path)}}}").replace('"', "`")
    key = [] if path.startswith("/health") else ['"X-API-Key": process.env.KEY']
    headers = ", ".join(key if body is None else [*key, '"Content-Type": "application/json"'])
    lines = [
        *([f'  method: "{method}",'] if method != "GET" else []),
        *([f"  headers: {{{headers}}},"] if headers else []),
        *([f"  body: JSON.stringify({_json(body)}),"] if body is not None else []),
    ]
    options = ", {\n" + "\n".join(lines) + "\n}" if lines else ""
    shown = f"console.log(await response.{'text' if path.endswith('.csv') else 'json'}());"
    if path.endswith(_STREAMS):
        shown = "for await (const text of response.body.pipeThrough(new TextDecoderStream())) console.log(text);"
    return f"const response = await fetch({url}{options});\n{shown}"
