"""Reading the members of a JSON object one by one, from files that do not fit into memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from anyref.errors import DataError

MAX_VALUE_CHARACTERS = 64 * 2**20
CHUNK = 2**20
SPACE = re.compile(r"[ \t\r\n]*")


def stream_members(path: str | Path) -> Iterator[tuple[str, Any]]:
    """The keys and values of the object that a file holds, in order; one at a time in memory.

    Raises:
        DataError: when the file cannot be read, is not one JSON object in UTF-8, or has a
            value of over 64 Mi characters. What came before has been yielded.
    """
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            yield from _Reader(file, str(path)).members()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; check the file") from error


class _Reader:
    """A window of the text, and how far it is read."""

    def __init__(self, file: TextIO, name: str) -> None:
        self.file, self.name = file, name
        self.text, self.place, self.before = "", 0, 0
        self.ended = False
        self.decoder = json.JSONDecoder()

    def members(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        if self._next() == "}":
            self._expect("}")
        else:
            yield self._member()
            while self._expect(",}") == ",":
                yield self._member()
        if self._next():
            raise self._fault("text after the object")

    def _member(self) -> tuple[str, Any]:
        key = self._value()
        if not isinstance(key, str):
            raise self._fault(f"a key of type {type(key).__name__}")
        self._expect(":")
        return key, self._value()

    def _next(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self.place = SPACE.match(self.text, self.place).end()  # type: ignore[union-attr]
            if self.place < len(self.text) or self.ended:
                return self.text[self.place : self.place + 1]
            self._fill()

    def _expect(self, characters: str) -> str:
        found = self._next()
        if not found or found not in characters:
            raise self._fault(f"{found!r} where one of {characters!r} belongs")
        self.place += 1
        return found

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.place)
            except RecursionError as error:
                raise self._fault("too many brackets") from error
            except json.JSONDecodeError as error:
                if self.ended:
                    raise self._fault(error.msg) from error
            else:
                if end < len(self.text) or self.ended:  # a number may go on in the next chunk
                    self.place = end
                    return value
            if len(self.text) - self.place > MAX_VALUE_CHARACTERS:
                raise self._fault("no value of up to 64 Mi characters")
            self._fill()

    def _fill(self) -> None:
        """Drop what is read and at least double what is left, so that retries stay few."""
        self.before += self.place
        self.text = self.text[self.place :]
        self.place = 0
        more = self.file.read(max(CHUNK, len(self.text)))
        self.ended = not more
        self.text += more

    def _fault(self, what: str) -> DataError:
        return DataError(
            f"{self.name!r} is not one JSON object: {what} at character "
            f"{self.before + self.place:,}; repair the file"
        )
