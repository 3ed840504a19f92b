"""The files of what was answered, and how an answer that differs is shown."""

import json
import os
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

HERE: Final = Path(__file__).parent
_SAME: Final = "same as "
_SHOWN_PATHS: Final = 3


def compare(name: str, answers: Mapping[str, Any]) -> None:
    """With the file of this name, or write it."""
    file = HERE / f"{name}.json"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(json.dumps(_shortened(answers), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    kept = _expanded(json.loads(file.read_text(encoding="utf-8")))
    if said := difference(kept, json.loads(json.dumps(answers))):
        pytest.fail(f"{file.name} is not what was answered; `make golden` writes it anew\n\n{said}", pytrace=False)


def difference(kept: Any, found: Any) -> str:
    """What changed, and where: one change that many answers show is said once."""
    places = dict[str, list[str]]()
    for path, lines in _differences((), kept, found):
        places.setdefault("\n".join(lines), []).append(" / ".join(path))
    return "\n\n".join(f"{_places(paths)}\n{lines}" for lines, paths in places.items())


def _places(paths: list[str]) -> str:
    more = len(paths) - _SHOWN_PATHS
    return "\n".join([*paths[:_SHOWN_PATHS], *([f"and {more} more"] if more > 0 else [])])


def _differences(path: tuple[str, ...], kept: Any, found: Any) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    if kept == found:
        return
    if isinstance(kept, dict) and isinstance(found, dict):
        for key in {**kept, **found}:
            if key in kept and key in found:
                yield from _differences((*path, key), kept[key], found[key])
            else:
                sign, value = ("-", kept[key]) if key in kept else ("+", found[key])
                yield (*path, key), [f"{sign} {line}" for line in _lines(value)]
    else:
        lines = unified_diff(_lines(kept), _lines(found), n=1, lineterm="")
        yield path, [line for line in islice(lines, 2, None) if not line.startswith("@@")]


def _lines(value: Any) -> list[str]:
    if isinstance(value, list) and all(isinstance(it, str) for it in value):
        return value
    return json.dumps(value, ensure_ascii=False, indent=1).splitlines()


def _shortened(answers: Mapping[str, Any]) -> dict[str, Any]:
    """What is answered as before is told so: in one question, or all of one as all of another."""
    found, whole = dict[str, Any](), dict[str, str]()
    for asked, answer in answers.items():
        first = whole.setdefault(json.dumps(answer), asked)
        found[asked] = _short(answer, (), {}) if first == asked else f"{_SAME}{first}"
    return found


def _short(answer: Any, path: tuple[str, ...], known: dict[str, str]) -> Any:
    """`known`: where in this question an answer stands already. An answer has a status or an exit code."""
    if not isinstance(answer, dict):
        return answer
    if "status" in answer or "code" in answer:
        first = known.setdefault(json.dumps(answer), " / ".join(path))
        return answer if first == " / ".join(path) else f"{_SAME}{first}"
    return {key: _short(each, (*path, key), known) for key, each in answer.items()}


def _expanded(kept: Mapping[str, Any]) -> dict[str, Any]:
    found = dict[str, Any]()
    for asked, answer in kept.items():
        found[asked] = found[answer.removeprefix(_SAME)] if _is_same(answer) else _whole(answer, answer)
    return found


def _whole(answer: Any, question: Any) -> Any:
    if _is_same(answer):
        for key in answer.removeprefix(_SAME).split(" / "):
            question = question[key]
        return question
    return {key: _whole(each, question) for key, each in answer.items()} if isinstance(answer, dict) else answer


def _is_same(answer: Any) -> bool:
    return isinstance(answer, str) and answer.startswith(_SAME)
