"""The command that helps after an error, from the words of the command that failed and from its message."""

import os
import re
import shlex
from collections.abc import Sequence

from orchestrator.planning.recipes import load_all

MISSPELT = re.compile(r"(setting )?'([^']+)'; did you mean '([^']+)'\?")
OTHER_IMAGES = re.compile(r"[;,] did you mean ((?:folder|folder-per-class|coco):[^?]+)\?")
NO_RUN = re.compile(r"no finished run .* in (.*?/runs)\b|^(.*) has no finished run of ")
CLUSTER = ("submit", "status", "logs", "stop")
SETTING = re.compile(r"(?<![\w./-])([a-z][a-z0-9_-]*)\.[a-z_0-9]+")  # component.setting, which a path never is


def next_command(words: Sequence[str], message: str) -> str:
    """A line after the message: what to do next; "" if the message names a command itself.

    A misspelt word leads to the same command with the right one, a run that is not there to the folder of runs, what is wrong
    with images to `images check`, a cluster to `doctor`, a setting to `show`, everything else to the help of the command.
    """
    if "wsss-orch " in message or not words:
        return ""
    if (runs := NO_RUN.search(message)) and not MISSPELT.search(message):
        return f"next: ls {shlex.quote(runs[1] or f'{runs[2]}/runs')}"
    return f"next: wsss-orch {shlex.join(_command(list(words), message))}"


def _command(words: list[str], message: str) -> list[str]:
    place = _place_of_images(words)
    if place and (other := OTHER_IMAGES.search(message)):
        return [*words[:place], other[1], *words[place + 1 :]]
    if found := MISSPELT.search(message):
        setting, wrong, right = found.groups()
        # a whole part of a word, which is never a part of a path; of a setting the part before its value
        name = re.compile(rf"(?<![^=]){re.escape(wrong)}(?==)" if setting else rf"(?<![^+=:,]){re.escape(wrong)}(?![^+=:,])")
        if (first := next((word for word in words if name.search(word)), None)) is not None:
            return [name.sub(right, word) if word is first else word for word in words]
    kind, colon, path = words[place].partition(":") if place else ("", "", "")
    folder = re.escape(os.path.abspath(os.path.expanduser(path)))  # as messages name it; a bare name may be any word of theirs
    if colon and words[0] != "images" and re.search(rf"{folder}(?![\w.-])", message):
        return ["images", "check", f"{kind}:{path}"]
    if words[0] in CLUSTER and "--address" in words[:-1]:
        return ["doctor", *words[words.index("--address") :][:2]]
    known = load_all()
    if owner := next((found for found in SETTING.findall(message) if found in known), None):
        return ["show", owner]
    return [*words[: 2 if words[0] == "images" else 1], "--help"]


def _place_of_images(words: Sequence[str]) -> int:
    """Where the image set stands among the words of a command; 0 if nowhere."""
    if words[0] == "images":
        return 2 if len(words) > 2 else 0
    return words.index("--images") + 1 if "--images" in words[:-1] else 0
