"""The papers say what is: their commands exist, their links lead somewhere, their examples are accepted."""

import json
import re
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import packages_distributions
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import typer

import mailerd
from mailerd.cli import app, lazy_group
from mailerd.config import load
from mailerd.intake.parse_job import parse_job
from mailerd.store.write.api_keys import ApiKey
from tests.house.markdown import Paper, spans
from tests.house.source import ROOT, functions, imports, modules
from tests.support.rendering import reading
from tools.messages import catalogues, read

README = Paper(ROOT / "README.md")
CHINESE = Paper(ROOT / "README.zh-CN.md")
FIRST_CALL = Paper(ROOT / "docs/tutorial/first-call.md")
PAPERS = [README, CHINESE, Paper(ROOT / "CHANGELOG.md"), *map(Paper, sorted((ROOT / "docs").rglob("*.md")))]
NAMES = [str(paper.path.relative_to(ROOT)) for paper in PAPERS]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
TEST = re.compile(r"(?P<file>tests/[\w/]+\.py)::(?P<name>\w+)")
MENTIONED = re.compile(r"(?:mailerd|tests|docs|tools|examples)/[\w/.-]*\w\.(?:py|md|json|sql)")

each_paper = pytest.mark.parametrize("paper", PAPERS, ids=NAMES)


def targets() -> set[str]:
    """What `make` can make."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def complaint(words: list[str]) -> str:
    """What is wrong with the words of a `mailerd` command; "" when it can be called like this."""
    command: Any = typer.main.get_command(app)  # typer has a click of its own, with types of its own
    if words and words[0] in lazy_group.COMMANDS:
        command, words = lazy_group.load(words[0]), words[1:]
    while (commands := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
        name, *words = words
        if name not in commands:
            alternatives = name.split("|")  # `keys create|list|revoke`
            return "" if all(each in commands for each in alternatives) else f"there is no command {name}"
        command = commands[name]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in known]
    return f"{command.name} has no option {', '.join(unknown)}" if unknown else ""


@each_paper
def test_every_mailerd_command_exists(paper: Paper) -> None:
    wrong = {" ".join(words): complaint(words) for words in paper.commands("mailerd")}
    assert {command: why for command, why in wrong.items() if why} == {}


@pytest.mark.parametrize("words", [["author"], ["keys", "forge"], ["run", "--fast"], ["settle", "17", "--perhaps"]])
def test_a_command_that_does_not_exist_is_seen(words: list[str]) -> None:
    assert complaint(words)


@each_paper
def test_every_make_target_exists(paper: Paper) -> None:
    called = {word for words in paper.commands("make") for word in words if "=" not in word}
    assert called <= targets()


def test_the_readme_begins_with_the_two_commands() -> None:
    first, second = [block.bare.split("\n") for block in README.blocks if block.language == "bash"][:2]
    assert (first, second) == (["make run"], ["make test"]), "apart, since the first does not return"
    assert [words for words in README.commands("mailerd") if words[:1] in (["migrate"], ["keys"], ["run"])]


@each_paper
def test_every_link_leads_somewhere(paper: Paper) -> None:
    wrong = []
    for link in paper.links:
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            target = paper.path.parent / file if file else paper.path
            if not target.is_file() or (anchor and anchor not in Paper(target).anchors):
                wrong.append(link)
    assert wrong == []


def test_what_the_readme_links_to_is_installed_with_it() -> None:
    install = (ROOT / "tools" / "install").read_text("utf-8")
    [copied] = re.findall(r'cp -r (.+) "\$place/"', install)
    linked = {link.split("/")[0] for link in README.links if not link.startswith("https://")}
    assert linked <= set(copied.split())


@each_paper
def test_every_file_and_test_that_is_named_exists(paper: Paper) -> None:
    files = {found[0] for found in MENTIONED.finditer(paper.text)}
    files |= {span for span in paper.spans if re.fullmatch(r"\w+/[\w/]+\.\w+", span)}  # `core/states.py`
    assert [
        each for each in sorted(files) if not ((ROOT / each).is_file() or (ROOT / "mailerd" / each).is_file())
    ] == []
    tests = {(found["file"], found["name"]) for found in TEST.finditer(paper.text)}
    assert [f"{file}::{name}" for file, name in sorted(tests) if name not in names_in(ROOT / file)] == []


def names_in(path: Path) -> set[str]:
    return {each.name for each in functions(path)}


def test_both_readmes_have_the_same_headings_and_blocks() -> None:
    assert [level for level, _ in README.headings] == [level for level, _ in CHINESE.headings]
    for ours, theirs in zip_longest(README.blocks, CHINESE.blocks):
        assert (ours.language, ours.bare) == (theirs.language, theirs.bare)


def test_both_readmes_lead_to_the_same_places_and_name_the_same_things() -> None:
    other = {"README.md", "README.zh-CN.md"}
    ours, theirs = (
        {link.replace(".zh-CN.md", ".md") for link in set(paper.links) - other} for paper in (README, CHINESE)
    )
    assert sorted(ours) == sorted(theirs)
    assert set(README.spans) == set(CHINESE.spans)


ENGLISH = ("internals/", "reference/events")
"""The documents that are English alone: for those who change mailerd, and the reference that has both languages."""
GUIDES = sorted(
    name
    for path in (ROOT / "docs").rglob("*.md")
    if ".zh-CN" not in path.name
    and not (name := path.relative_to(ROOT / "docs").with_suffix("").as_posix()).startswith(ENGLISH)
)
TRANSLATED = [str(path.relative_to(ROOT / "docs")) for path in sorted((ROOT / "docs").rglob("*.zh-CN.md"))]


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_and_its_chinese_lead_to_one_another(name: str) -> None:
    english, chinese = Paper(ROOT / f"docs/{name}.md"), Paper(ROOT / f"docs/{name}.zh-CN.md")
    assert f"{Path(name).name}.zh-CN.md" in english.links
    assert f"{Path(name).name}.md" in chinese.links
    assert [level for level, _ in english.headings] == [level for level, _ in chinese.headings]


def job_of_the_readme() -> str:
    """The body that its curl line posts."""
    (posted,) = re.findall(r"-d '(\{.*?\n  \})'", README.text, re.DOTALL)
    return str(posted)


@pytest.mark.parametrize("which", ["README", "tutorial"])
async def test_a_job_in_the_papers_is_accepted_and_renders(which: str) -> None:
    (block,) = (block for block in FIRST_CALL.blocks if block.language == "json")
    now = datetime(2026, 11, 24, tzinfo=UTC)
    raw, key = (job_of_the_readme() if which == "README" else block.body).encode(), a_key(now)
    async with reading() as reader:
        order = await parse_job(raw, key=key, now=now, max_recipients=10, reader=reader, origin="the test")
    assert order.total == order.accepted > 0


def test_the_job_in_the_tutorial_is_the_one_that_its_commands_post() -> None:
    (block,) = (block for block in FIRST_CALL.blocks if block.language == "json")
    (post,) = (block for block in FIRST_CALL.blocks if "api/jobs/send_template_emails" in block.body)
    posted = re.search(r"--data-binary @(\S+)", post.body)
    assert posted is not None
    assert (ROOT / posted[1]).read_text("utf-8").rstrip() == block.body.rstrip()
    own = json.loads(job_of_the_readme())["sender_email"]
    assert own == json.loads(block.body)["sender_email"]
    assert f"auth login --sender {own}" in README.text, "the mailbox that the page sets up"


def test_the_table_in_the_tutorial_is_the_one_of_the_examples() -> None:
    (table,) = (
        block.body for block in Paper(ROOT / "docs/tutorial/first-campaign.md").blocks if "email," in block.body
    )
    assert table == (ROOT / "examples/people.csv").read_text("utf-8")


@pytest.mark.parametrize("name", ["first-campaign.md", "first-campaign.zh-CN.md"])
def test_what_a_tutorial_says_to_press_is_what_the_console_calls_it(name: str) -> None:
    (po,) = catalogues()
    labels = set()
    for each in read(po):
        many = [each.id] if isinstance(each.id, str) else [*each.id]
        chinese = [each.string] if isinstance(each.string, str) else [*(each.string or ())]
        labels |= {re.sub(r"\{[^}]*\}", "3", said) for said in (chinese if ".zh" in name else many)}
    named = set(re.findall(r"\*\*(.+?)\*\*", Paper(ROOT / "docs/tutorial" / name).text))
    assert len(named) > 5
    assert named <= labels


def test_the_readme_is_read_in_five_minutes() -> None:
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", README.text)
    assert len(README.text.split()) <= 1050
    assert len(pictures) <= 2
    assert all(len(alternative) > 20 for alternative, _ in pictures), "each says in words what is to be seen"


@pytest.mark.parametrize("picture", sorted(path.name for path in (ROOT / "docs/pictures").iterdir()))
def test_a_picture_is_light(picture: str) -> None:
    assert (ROOT / "docs/pictures" / picture).stat().st_size <= 100_000


def a_key(now: datetime) -> ApiKey:
    """A key that may send from anywhere."""
    return ApiKey(
        id=1, name="k", digest=b"", hint="", senders=None, permissions=None, per_minute=None, created_at=now,
        last_used_at=None, revoked_at=None, old_until=None,
    )  # fmt: skip


def test_the_configuration_in_the_readme_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (block for block in README.blocks if block.language == "toml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(block.body, "utf-8")
    assert load(tmp_path / "config.toml", environment={}).pace.per_day == 2000


def test_the_commands_work_in_the_folder_whose_env_file_is_for_compose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "container/compose.yaml").read_text()))
    assert names
    (tmp_path / ".env").write_text("".join(f"{name}=a-long-one\n" for name in names))
    monkeypatch.chdir(tmp_path)
    load(environment={})


def test_every_direct_dependency_is_explained_with_its_range() -> None:
    rows = dict(
        re.findall(r"^\| ([\w-]+) `([^`]+)` \|", Paper(ROOT / "docs/internals/dependencies.md").text, re.MULTILINE)
    )
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    wanted += PROJECT["build-system"]["requires"]
    ranges = dict(found for each in wanted for found in re.findall(r"^([\w-]+)([^;\s]+)", each))
    assert rows == ranges


def test_every_package_that_the_code_imports_is_a_direct_dependency() -> None:
    declared = {re.split(r"[<>=;\[]", each)[0] for each in PROJECT["project"]["dependencies"]}
    optional = {re.split(r"[<>=;\[]", each)[0] for each in PROJECT["project"]["optional-dependencies"]["alerts"]}
    package = {name: found[0].lower().replace("_", "-") for name, found in packages_distributions().items()}
    imported = {name.split(".")[0] for path in modules("mailerd") for name, _ in imports(path)}
    needed = {package[name] for name in imported - {"mailerd"} - sys.stdlib_module_names}
    assert needed - optional == declared
    for each in PROJECT["project"]["optional-dependencies"]["alerts"]:
        name, range_ = re.findall(r"^([\w-]+)(.+)$", each)[0]
        assert f"**{name}** `{range_}`" in Paper(ROOT / "docs/internals/dependencies.md").text


def test_the_pins_and_their_reason_are_told() -> None:
    text = Paper(ROOT / "docs/internals/dependencies.md").text
    assert "**PyMySQL 1.1.3.**" in text
    assert "**aiomysql 0.3.2.**" in text
    assert {"aiomysql==0.3.2", "pymysql==1.1.3"} <= set(PROJECT["project"]["dependencies"])


def test_the_page_on_architecture_draws_the_layers_that_are_held() -> None:
    (contract,) = (each for each in PROJECT["tool"]["importlinter"]["contracts"] if each.get("exhaustive"))
    drawn = [
        [re.split(r"\s{2,}", line)[0] for line in block.body.splitlines()]
        for block in Paper(ROOT / "docs/internals/architecture.md").blocks
    ]
    assert contract["layers"] in drawn


def test_every_table_is_explained_where_it_is_made() -> None:
    bare = []
    for file in (ROOT / "mailerd/store/migrations").glob("*.sql"):
        before = ""
        for line in file.read_text("utf-8").splitlines():
            made = re.match(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", line)
            if made and not before.startswith("-- "):
                bare.append(made[1])
            before = line
    assert bare == []


def test_the_index_leads_to_every_document_and_every_example() -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    english = {page for page in pages if not page.endswith(".zh-CN.md")}
    examples = {f"../examples/{path.name}" for path in (ROOT / "examples").iterdir() if path.is_file()}
    examples.add("../examples/templates/welcome/template.toml")
    index, chinese = set(Paper(ROOT / "docs/index.md").links), set(Paper(ROOT / "docs/index.zh-CN.md").links)
    assert index == (pages - {"index.md"}) | examples
    translated = {page.replace(".zh-CN.md", ".md") for page in pages - english}
    assert chinese == (pages - english | english - translated | {"index.md"} | examples) - {"index.zh-CN.md"}


def test_the_page_on_crashes_goes_through_every_step_and_says_what_remains() -> None:
    pages = [Paper(ROOT / "docs" / page) for page in ("explanation/crash.md", "internals/crash-by-step.md")]
    said = " ".join(text.lower() for page in pages for _, text in page.headings)
    steps = ("accept", "claim", "render", "drafts.create", "draft id", "drafts.send", "messages.send", "outcome")
    assert [
        step for step in (*steps, "renew", "finish", "recovery", "sweep", "migration", "remains") if step not in said
    ] == []


def test_the_changelog_knows_this_version() -> None:
    assert "version" in PROJECT["project"]["dynamic"], "there is one version, that of the package"
    assert re.search(rf"^## {re.escape(mailerd.__version__)} ", Paper(ROOT / "CHANGELOG.md").text, re.MULTILINE)


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert PROJECT["project"]["license"] == "MIT"
    assert text.startswith("MIT License\n")
    assert "the mailerd founders" in text


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_chinese_guide_has_the_sections_and_the_commands_of_the_english_one(name: str) -> None:
    chinese, english = Paper(ROOT / "docs" / name), Paper(ROOT / "docs" / name.replace(".zh-CN.md", ".md"))
    assert len(re.findall("^## ", chinese.text, re.MULTILINE)) == len(re.findall("^## ", english.text, re.MULTILINE))
    assert list(chinese.commands("mailerd")) == list(english.commands("mailerd"))
    assert [block.body for block in chinese.blocks] == [block.body for block in english.blocks]


@pytest.mark.parametrize("name", GUIDES)
def test_each_section_of_a_chinese_guide_names_and_lists_what_the_english_one_does(name: str) -> None:
    english, chinese = Paper(ROOT / f"docs/{name}.md"), Paper(ROOT / f"docs/{name}.zh-CN.md")
    for (title, ours), (_, theirs) in zip_longest(english.sections, chinese.sections):
        assert set(spans(ours)) <= set(spans(theirs)), f"{chinese.path.name}: {title}"
        assert rows(ours) == rows(theirs), f"{chinese.path.name}: {title}"


def rows(text: str) -> int:
    return len(re.findall(r"^\|", text, re.MULTILINE))


VAGUE = re.compile(
    r"\b(?:nobody|somebody|whoever|anybody|(?:is|are|was|were|be|been) told|(?:come|comes|came) to (?:its|their) end)\b"
    r"(?!@| apart)",
    re.IGNORECASE,
)
"""Words that hide who does something. A sentence names its subject: a client, a daemon, a person, no recipient."""
READABLE = {".css", ".html", ".j2", ".js", ".json", ".md", ".py", ".sql", ".svg", ".toml", ".txt", ".yml"}


def test_every_sentence_names_its_subject() -> None:
    files = [path for place in ("mailerd", "docs") for path in (ROOT / place).rglob("*") if path.suffix in READABLE]
    found = [
        f"{path.relative_to(ROOT)}:{number} {said[0]}"
        for path in (*sorted(files), ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "config.example.toml")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (said := VAGUE.search(line))
    ]
    assert found == [], "say who: subject, verb, object"
