"""`mailerd send`: a table becomes a job once, and whoever made a mistake is told on which line."""

import asyncio
import json
from email import message_from_bytes, policy

import pytest

from tests.cli.conftest import ME, Shop
from tests.support.daemon import running
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import query
from tests.support.spreadsheets import xlsx

TABLE = "email,name,product,language\nada@example.org,Ada,Tea,\nbob@example.org,Bob,“Coffee, black”,zh\n"


@pytest.fixture
def table(shop: Shop) -> str:
    template = shop.folder / "templates" / "welcome"
    (template / "zh").mkdir(parents=True)
    (template / "template.toml").write_text('[variables]\nproduct = "Tea"\n')
    (template / "subject.txt").write_text("Hello {{ name | default('you') }}")
    (template / "body.txt").write_text("Thank you for {{ product }}.")
    (template / "zh" / "subject.txt").write_text("你好 {{ name }}")
    (template / "zh" / "body.txt").write_text("谢谢 {{ product }}")
    (shop.folder / "people.csv").write_text("\ufeff" + TABLE.replace("“", '"').replace("”", '"'), encoding="utf-8")
    return "people.csv"


async def _stored(shop: Shop) -> int:
    return int((await query(shop.database, "SELECT COUNT(*) FROM jobs"))[0][0])


async def test_each_line_of_a_table_gets_its_message_and_the_command_waits_for_the_last(shop: Shop, table: str) -> None:
    async with running(shop.settings, Heard()):
        said = await shop.say("send", table, "--template", "welcome", "--sender", ME, "--reference", "spring")
    assert "2 messages from me@example.com" in said
    assert "\nJob " in said
    assert "completed, 2 recipients: 2 sent." in said
    messages = [message_from_bytes(message.raw, policy=policy.default) for message in shop.google.sent]
    assert {message["To"]: message["Subject"] for message in messages} == {
        "Ada <ada@example.org>": "Hello Ada",
        "Bob <bob@example.org>": "你好 Bob",
    }
    assert "Coffee, black" in "".join(message.get_content() for message in messages)


async def test_the_same_command_again_posts_nothing_unless_it_is_told_to(shop: Shop, table: str) -> None:
    words = ("send", table, "--template", "welcome", "--sender", ME, "--no-wait")
    first = (await shop.say(*words)).split()[1].rstrip(":")
    refused = await shop.say(*words, code=1)
    assert "this job was already posted at 20" in refused
    assert f"`mailerd jobs show {first}`" in refused
    assert await _stored(shop) == 1
    await shop.say(*words, "--again")
    assert await _stored(shop) == 2
    (shop.folder / "templates" / "welcome" / "body.txt").write_text("Another {{ product }}.")
    await shop.say(*words)
    assert await _stored(shop) == 3


async def test_a_path_is_a_template_too_and_a_dry_run_stores_nothing(shop: Shop, table: str) -> None:
    said = await shop.say("send", table, "--template", "./templates/welcome", "--sender", ME, "--dry-run")
    assert "To: ada@example.org\nSubject: Hello Ada\n\nThank you for Tea." in said
    assert "2 of 2 messages can be sent" in said
    assert await _stored(shop) == 0


async def test_a_dry_run_of_which_no_message_can_be_sent_ends_with_1(shop: Shop, table: str) -> None:
    (shop.folder / "templates" / "welcome" / "subject.txt").write_text("{{ product }}" * 100)
    (shop.folder / "people.csv").write_text("email,product\na@example.org," + "x" * 90_000 + "\n")
    said = await shop.say("send", table, "--template", "welcome", "--sender", ME, "--dry-run", code=1)
    assert "The job would be rejected: 1 of 1 rows is not valid. Nothing was stored.\nFix these rows.\n" in said


async def test_what_a_table_says_is_not_taken_for_a_place_in_it(shop: Shop, table: str) -> None:
    (shop.folder / "people.csv").write_text(
        "email,product\nrecipients[1],Tea\nrecipients[9],Tea\na@example.org,Tea\nA@example.org,Tea\n"
    )
    words = ("send", table, "--template", "welcome", "--sender", ME)
    said = await shop.say(*words, "--dry-run", code=1)
    assert "not valid: people.csv row 2: recipients[1]: " in said
    assert "not valid: people.csv row 3: recipients[9]: " in said
    assert "duplicate of people.csv row 4" in said
    said = await shop.say(*words, "--variables", '{"a]b": "\\u0000"}', code=1)
    assert "  --variables.a]b: contains a NUL character" in said


async def test_a_dry_run_names_those_who_opted_out_and_counts_them_out(shop: Shop, table: str) -> None:
    await shop.say("suppress", "add", "ada@example.org", "--list", "news", "--new-list")
    words = ("send", table, "--template", "welcome", "--sender", ME, "--list", "news", "--dry-run")
    said = await shop.say(*words)
    assert "not sent: ada@example.org: the address is suppressed: manual" in said
    assert "To: bob@example.org" in said
    assert "1 of 2 messages can be sent" in said
    await shop.say("suppress", "add", "bob@example.org")
    assert "0 of 2 messages can be sent" in await shop.say(*words, code=1)
    assert await _stored(shop) == 0
    posting = words[:-1]
    assert "0 messages from me@example.com" in await shop.say(*posting, "--no-wait", code=1)
    async with running(shop.settings, Heard()):
        assert "2 recipients: 2 cancelled" in await shop.say(*posting, "--again", code=1)


async def test_why_a_row_is_not_valid_is_chinese_in_chinese(shop: Shop, table: str) -> None:
    (shop.folder / table).write_text("email,product\na@example.org,x\njürgen@example.org,y\n")
    shop.config.write_text(shop.config.read_text() + '[log]\nlanguage = "zh"\n')
    words = ("send", table, "--template", "welcome", "--sender", ME)
    for said in (await shop.say(*words, "--dry-run", code=1), await shop.say(*words, "--no-wait", code=1)):
        assert "@ 之前含有非 ASCII 字符" in said
        assert "characters before" not in said


@pytest.mark.parametrize("bad", ["nonsense,y", "A@Example.org,y"])
async def test_a_dry_run_says_what_the_post_would_refuse_and_ends_with_1(shop: Shop, table: str, bad: str) -> None:
    (shop.folder / table).write_text(f"email,product\na@example.org,x\n{bad}\n")
    words = ("send", table, "--template", "welcome", "--sender", ME)
    said = await shop.say(*words, "--dry-run", code=1)
    assert f"not valid: people.csv row 3: {bad.partition(',')[0].replace('E', 'e')}: " in said
    assert "The job would be rejected: 1 of 2 rows is not valid. Nothing was stored.\n" in said
    assert "Fix these rows, or skip them with --skip-invalid.\n" in said
    assert "people.csv row 3" in await shop.say(*words, "--no-wait", code=1)
    said = await shop.say(*words, "--dry-run", "--skip-invalid")
    assert "skipped: people.csv row 3: " in said
    assert "1 of 2 messages can be sent" in said
    (shop.folder / table).write_text("email,product\nnonsense,y\n")
    said = await shop.say(*words, "--dry-run", "--skip-invalid", code=1)
    assert "Nothing was stored.\nFix these rows.\n" in said, "what was given helps no more"


@pytest.mark.usefixtures("table")
async def test_a_table_can_come_through_a_pipe(shop: Shop) -> None:
    said = await shop.say(
        "send", "-", "--template", "welcome", "--sender", ME, "--dry-run", given="email,product\na@example.org,x\n"
    )
    assert "1 of 1 messages can be sent" in said


@pytest.mark.usefixtures("table")
async def test_a_table_from_a_pipe_is_utf_8_as_a_file_is(shop: Shop) -> None:
    words = ("send", "-", "--template", "welcome", "--sender", ME, "--dry-run")
    excel = "\ufeffemail,product\r\na@example.org,Tür\r\n"
    assert "Thank you for Tür" in await shop.say(*words, given=excel)
    said = await shop.say(*words, given="email,product\na@example.org,Tür\n", code=1, encoding="latin-1")
    asked = "not UTF-8, perhaps cp1252: Tür. Save it as CSV UTF-8, or name the encoding"
    assert said.strip().endswith(f"could not read standard input: {asked}")
    latin = "email,product\na@example.org,Tür\n"
    assert "Thank you for Tür" in await shop.say(*words, "--encoding", "cp1252", given=latin, encoding="latin-1")


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "could not read people.csv: the file is empty"),
        ("who,name\nAda,A\n", "No column is used as the email address. Columns: who, name"),
        ("email,name,name\na@example.org,A,B\n", "Several columns are used as name: name, name"),
        ("email,product\na@example.org\n", "people.csv row 2: 1 cell, but 2 columns"),
        (
            "email,product\na@example.org\nb@example.org,x\nc@example.org,x,y\n",
            "people.csv row 4: 3 cells, but 2 columns",
        ),
        ("email;product\na@example.org,x\n", "people.csv row 2: 1 cell, but 2 columns"),
        (
            "email\n" + "a@example.org,x\n" * 23,
            "people.csv row 21: 2 cells, but 1 column\n  and 3 more",
        ),
        (
            "email,product\na@example.org,x\na@example.org,y\n",
            "people.csv row 3, email: duplicate of people.csv row 2",
        ),
        ('email,product\na@example.org,"x\n', "could not read people.csv: not a valid CSV (unexpected end of data)"),
        ("email,product\n", "recipients: is empty"),
        ("email,product\na@example.org,x\n\nnonsense,y\n", "people.csv row 4, email: "),
        ('email,product\na@example.org,"x\ny"\na@example.org,z\n', "people.csv row 3, email: "),
        ("email\na@example.org\n", "people.csv row 2"),
    ],
)
async def test_a_mistake_is_told_with_its_line_and_nothing_is_stored(
    shop: Shop, table: str, text: str, told: str
) -> None:
    (shop.folder / table).write_text(text)
    said = await shop.say("send", table, "--template", "welcome", "--sender", ME, "--no-wait", code=1)
    assert told in said
    assert "Traceback" not in said
    assert await _stored(shop) == 0


@pytest.mark.parametrize(
    "words, told",
    [
        (("--template", "farewell", "--sender", ME), "--template: template 'farewell' not found in /"),
        (("--template", "welcome", "--sender", "not a mailbox"), "--sender: "),
        (
            ("--template", "welcome", "--sender", "you@example.com"),
            "is neither a mailbox authorized here nor an alias of one",
        ),
        (("--template", "welcome", "--sender", ME, "--variables", "[1]"), "--variables must be an object"),
        (("--template", "welcome", "--sender", ME, "--send-at", "tomorrow"), "--send-at: "),
        (("--template", "welcome", "--sender", ME, "--priority", "1000"), "--priority: "),
        (("--template", "welcome", "--sender", ME, "--reference", "\udcff"), "--reference: contains half a surrogate"),
    ],
)
async def test_a_wrong_option_is_told_and_nothing_is_stored(
    shop: Shop, table: str, words: tuple[str, ...], told: str
) -> None:
    said = await shop.say("send", table, *words, "--no-wait", code=1)
    assert told in said
    assert "Traceback" not in said
    assert await _stored(shop) == 0


async def test_a_folder_without_a_template_toml_is_named_with_its_path_and_what_it_lacks(
    shop: Shop, table: str
) -> None:
    (shop.folder / "mine" / "bare").mkdir(parents=True)
    said = await shop.say("send", table, "--template", "mine/bare", "--sender", ME, "--no-wait", code=1)
    assert f"the folder bare in {shop.folder / 'mine'} has no template.toml; create one, which may be empty" in said


async def test_the_known_columns_may_be_capitalised_and_a_variable_keeps_its_name(shop: Shop, table: str) -> None:
    (shop.folder / table).write_text("EMAIL,Name,product,Colour\na@example.org,Ada,x,red\n")
    await shop.say("send", table, "--template", "welcome", "--sender", ME, "--no-wait")
    assert await query(shop.database, "SELECT to_email, to_name, variables FROM job_recipients") == [
        ("a@example.org", "Ada", '{"product":"x","Colour":"red"}')
    ]


async def test_bad_lines_are_left_out_by_their_numbers(shop: Shop, table: str) -> None:
    (shop.folder / table).write_text("email,product\na@example.org,x\nnonsense,y\n")
    said = await shop.say("send", table, "--template", "welcome", "--sender", ME, "--skip-invalid", "--no-wait")
    assert "skipped: people.csv row 3: nonsense: " in said
    assert "1 message from me@example.com" in said


async def test_messages_that_failed_make_the_exit_code_1(shop: Shop, table: str) -> None:
    async with running(shop.settings, Heard()):
        (shop.folder / table).write_text("email,product\na@example.org,x\nnonsense,y\n")
        said = await shop.say("send", table, "--template", "welcome", "--sender", ME, "--skip-invalid", code=1)
    assert "1 sent, 1 failed" in said


async def test_a_file_that_cannot_be_read_is_named(shop: Shop, table: str) -> None:
    words = ("--template", "welcome", "--sender", ME)
    assert "could not read nobody.csv: No such file" in await shop.say("send", "nobody.csv", *words, code=1)
    (shop.folder / table).write_bytes(b"email\n\xff\xfe\n")
    assert "could not read people.csv: not UTF-8, perhaps cp1252: ÿþ" in await shop.say("send", table, *words, code=1)
    (shop.folder / table).write_bytes(b"PK\x03\x04")
    assert "could not read people.csv: the file is not a table" in await shop.say("send", table, *words, code=1)


@pytest.mark.usefixtures("table")
async def test_a_workbook_is_sent_and_its_columns_are_mapped_by_guess_and_by_hand(shop: Shop) -> None:
    rows = [["电子邮件", "姓名", "Ware"], ["a@example.org", "王", "茶"], ["b@gmial.com", "李", ""], ["nobody", "", "x"]]
    (shop.folder / "people.xlsx").write_bytes(xlsx({"About": [["x"]], "People": rows}))
    words = ("send", "people.xlsx", "--template", "welcome", "--sender", ME, "--skip-invalid")
    said = await shop.say(*words, "--column", "Ware=product", "--dry-run")
    assert "warning: product is empty in 1 row" in said or "warning: Ware is empty in 1 row" in said
    assert "warning: 1 address may be misspelt" in said
    assert "skipped: people.xlsx row 4: nobody: has no @" in said
    assert "Subject: Hello 王\n\nThank you for 茶." in said
    assert "2 of 3 messages can be sent" in said
    for more, told in (
        (("--sheet", "No"), "no visible sheet No"),
        (("--column", "Ware"), "--column must be HEADER=USE"),
        (("--column", "Product=x"), "no column is called Product"),
        (("--header-row", "2"), "No column is used as the email address"),
        (("--encoding", "ebcdic"), "--encoding must be one of utf-8"),
    ):
        assert told in await shop.say(*words, *more, code=1)


async def test_without_a_daemon_it_says_so_and_goes_on_when_one_runs(shop: Shop, table: str) -> None:
    sending = await shop.start("send", table, "--template", "welcome", "--sender", ME)
    assert sending.stdout is not None
    told = b""
    while b"No daemon has been seen" not in told:
        line = await asyncio.wait_for(sending.stdout.readline(), PATIENCE)
        assert line, told
        told += line
    assert b"The job is stored and is sent when one runs; this command waits." in told
    async with running(shop.settings, Heard()):
        rest, _ = await asyncio.wait_for(sending.communicate(), PATIENCE)
    assert b"completed, 2 recipients: 2 sent." in rest


@pytest.mark.parametrize("separator", [";", "\t"])
async def test_columns_may_be_separated_as_spreadsheets_elsewhere_do_it(shop: Shop, table: str, separator: str) -> None:
    (shop.folder / table).write_text(f"email{separator}product\na@example.org{separator}a, b\n")
    assert "Thank you for a, b." in await shop.say("send", table, "--template", "welcome", "--sender", ME, "--dry-run")


async def test_a_table_is_sent_with_tags_and_its_job_is_listed_by_one(shop: Shop, table: str) -> None:
    words = ("send", table, "--template", "welcome", "--sender", ME, "--no-wait")
    job = (await shop.say(*words, "--tag", "spring", "--tag", "vip")).split()[1].rstrip(":")
    other = (await shop.say(*words)).split()[1].rstrip(":")
    (found,) = json.loads(await shop.say("jobs", "list", "--tag", "spring", "--json"))["jobs"]
    assert (found["job_id"], found["tags"], found["metadata"]) == (job, ["spring", "vip"], {})
    assert other not in await shop.say("jobs", "list", "--tag", "spring")
    assert "No jobs." in await shop.say("jobs", "list", "--tag", "autumn")
    assert "must have 1 to 50 of the" in await shop.say("jobs", "list", "--tag", "标签", code=2)
    said = await shop.say(*words, "--tag", "good", "--tag", "no tag", code=1)
    assert "--tag: must have 1 to 50 of the characters" in said
