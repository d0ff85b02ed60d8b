"""A YAML file with the line of every value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from orchestrator.cluster.findings import Path as KeyPath
from trainables.errors import UserError
from trainables.plain_file import read_user_text
from trainables.yaml_text import check_size


class YamlFile:
    """A YAML document that knows the line of each of its values.

    Raises:
        UserError: no such file, no YAML, not one mapping, or a key that stands there twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = read_user_text(path, "cluster file")
        try:
            check_size(text, str(path))
            root = yaml.compose(text, yaml.SafeLoader)
            self.document: dict[str, Any] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = getattr(error, "problem", None) or "more than one document"
            raise UserError(f"{place} is not YAML: {problem}") from None
        if not isinstance(self.document, dict):
            raise UserError(f"{path} does not hold a mapping")
        self._lines: dict[KeyPath, int] = {}
        self._walk(root, ())

    def line(self, path: KeyPath) -> int:
        """The line of a value, or of the nearest value around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def get(self, *path: str | int) -> Any:
        """The value at a path, or None where there is none."""
        value: Any = self.document
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def _walk(self, node: yaml.Node, path: KeyPath) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = (*path, str(key.value))
                if below in self._lines:
                    first = self._lines[below]
                    raise UserError(
                        f"{self.path}:{key.start_mark.line + 1} {key.value} stands there twice, "
                        f"first in line {first}"
                    )
                self._lines[below] = key.start_mark.line + 1
                self._walk(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._lines[(*path, index)] = value.start_mark.line + 1
                self._walk(value, (*path, index))
