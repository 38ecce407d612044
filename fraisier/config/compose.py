"""What must hold for an environment that Docker Compose runs."""

from __future__ import annotations

from fraisier.config import texts
from fraisier.config.reading import Reader
from fraisier.config.sections import Parsed
from fraisier.domain.release import Layout

_LONG_FORM = "target: {type: compose, unit: PROJECT, files: compose.yaml, docker_host: URL}"
_OF_COMPOSE = {  # variables that would send docker elsewhere than Fraisier looks
    "COMPOSE_FILE": "compose_file",
    "COMPOSE_PROJECT_NAME": "compose_project",
    "DOCKER_HOST": _LONG_FORM,
    "DOCKER_CONTEXT": _LONG_FORM,
}


def check_compose(reader: Reader, environment: Parsed) -> None:
    """Report what compose would not do as it is written."""
    for name in environment["env"]:
        if name in _OF_COMPOSE:
            node = environment.at("env").entries.get(name, environment.at("env"))
            reader.refuse(node, f"is not read from env; write it as {_OF_COMPOSE[name]}", at_key=True)
    if environment.values.get("unit_file"):
        message = "has no meaning with Docker Compose, which brings what it runs; leave it out"
        reader.refuse(environment.at("unit_file"), message, at_key=True)
    _check_socket(reader, environment)
    target = environment["target"]
    if target is None:
        return
    for name, value in target.values.items():
        if name == "files" and (wrong := texts.compose_files(value)):
            reader.refuse(target.at(name), wrong)
        elif name not in ("type", "unit", "files", "docker_host"):
            allowed = "allowed are type, unit, files, docker_host"
            reader.refuse(target.at(name), f"is no key of target: {{type: compose}}; {allowed}", at_key=True)


_LONGEST_RELEASE = "123456789-0123456789"


def _check_socket(reader: Reader, environment: Parsed) -> None:
    if environment["cutover"] != "blue_green" or environment["listen"] or not environment["app_path"]:
        return
    socket = Layout(texts.normal(environment["app_path"])).socket(_LONGEST_RELEASE)
    if len(socket) > texts.LONGEST_SOCKET:
        message = f"is too long: releases listen on {socket}, of at most {texts.LONGEST_SOCKET} characters"
        reader.refuse(environment.at("app_path"), f"{message}; choose another one, or say where with listen")
