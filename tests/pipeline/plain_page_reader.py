"""`pipeline/native/page_reader.c` in plain Python: what it has to do, for tests to compare it with."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.native import page_reader as native

NAME, HIDDEN, STYLE = native.NAME, native.HIDDEN, native.STYLE
ROOT, LIST, TABLE, ROW, CELL, PRE = native.ROOT, native.LIST, native.TABLE, native.ROW, native.CELL, native.PRE
INLINE, LINK, IMAGE, RARE_INLINE, READING = native.INLINE, native.LINK, native.IMAGE, native.RARE_INLINE, native.READING
SKIPPED, SCRIPT, RARE_SKIPPED, LINE_BREAK = native.SKIPPED, native.SCRIPT, native.RARE_SKIPPED, native.LINE_BREAK
Attributes = tuple[tuple[str, str | None], ...]
PLACED = (LIST, TABLE, ROW, CELL, PRE)
IN_LINE = (INLINE, LINK, IMAGE, RARE_INLINE)


class PageReader:
    """The same as `pipeline.native.page_reader.PageReader`, but for hints: every value is the subclass's."""

    def __init__(self, kinds: dict[str, int], attributes: dict[str, int], hints: Any, max_elements: int) -> None:
        self.kinds, self.attributes, self.max_elements = kinds, attributes, max_elements
        self.texts: list[str] = []
        self.inline_names: list[str] = []
        self.tags: list[str] = []
        self.element_names: list[str] = []
        self.blocks: list[list[int]] = []
        self.elements: list[list[int]] = []
        self.end_order: list[int] = []
        self.open: list[int] = [-1]
        self.hidden: list[int] = []
        self.place = [-1, -1, -1, -1, 0, -1]  # list, table, row, cell, number of the cell, `pre`
        self.outer_places: list[list[int]] = []
        self.cells: dict[int, int] = {}
        self.pieces: list[str] = []
        self.lines: list[str] = []
        self.names: list[str] = []
        self.marks: list[int] = []
        self.links = self.link_chars = self.breaks = self.skipping = self.pre = 0
        self.is_aside = self.skipping_reads_math = self.any_formula = False
        self.math: Any = None
        self.script: Any = None
        self.formula: Any = None

    @property
    def element(self) -> int:
        """The innermost open element."""
        return self.open[-1]

    def __getattr__(self, name: str) -> Any:
        """A method that only the subclass has."""
        raise AttributeError(name)

    def start_element(self, tag: str, attrs: Attributes) -> None:
        """The start of an element."""
        kind = self.kinds.get(tag, 0)
        if self.is_aside:
            if self.math is not None or self.skipping_reads_math:
                self.start_aside(tag, attrs)
            else:
                self.skipping += 1
        elif kind == LINE_BREAK:
            self._line_break()
        elif kind == READING:
            self.start_rare(tag, attrs)
        elif kind in (RARE_SKIPPED, SCRIPT):
            self.start_skipped(tag, attrs)
        elif kind == SKIPPED:
            self._skip(reads_math=False)
        else:
            names, is_hidden = self._read(kind, attrs)
            if kind in IN_LINE:
                self._start_inline(kind, tag, attrs, names, is_hidden)
            else:
                self._start_block(kind, tag, names, is_hidden)

    def end_element(self, tag: str) -> None:
        """The end of an element."""
        kind = self.kinds.get(tag, 0)
        if self.is_aside:
            if self.math is not None or self.script is not None:
                self.end_aside(tag)
            else:
                self.skipping -= 1
                self.is_aside = self.skipping > 0
        elif kind in (RARE_INLINE, READING):
            self.end_rare(tag)
        elif kind == LINK:
            self.links = max(0, self.links - 1)
        elif kind not in (INLINE, IMAGE, LINE_BREAK):
            self._end_block(kind)

    def characters(self, data: str) -> None:
        """A run of text."""
        if self.is_aside:
            if self.math is not None or self.script is not None:
                self.aside_characters(data)
        elif self.pieces or self.pre or not data.isspace():
            self.pieces.append(data)
            if self.links:
                self.link_chars += len(data)
            if not data.isspace():
                self.breaks, self.formula = 0, None

    def block_columns(self) -> bytes:
        """Columns of all blocks."""
        return np.array(self.blocks, np.int64).reshape(-1, 11).T.tobytes()

    def element_columns(self) -> bytes:
        """Columns of all elements."""
        for row, cells in self.cells.items():
            if row >= 0:
                self.elements[row][6] = cells
        return np.array(self.elements, np.int64).reshape(-1, 7).T.tobytes()

    def ended(self) -> bytes:
        """The elements in the order of their ends."""
        return np.array(self.end_order, np.int64).tobytes()

    def _read(self, kind: int, attrs: Attributes) -> tuple[str, bool]:
        names, is_hidden = "", False
        for name, value in attrs:
            attribute = self.attributes.get(name)
            if attribute == NAME:
                names = f"{names} {value}"
            elif attribute == HIDDEN or (attribute == STYLE and value and self.hides(value)):
                is_hidden = kind != ROOT and value != "until-found"
        return names, is_hidden

    def _skip(self, reads_math: bool) -> None:
        self.is_aside, self.skipping, self.skipping_reads_math = True, 1, reads_math

    def _start_inline(self, kind: int, tag: str, attrs: Attributes, names: str, is_hidden: bool) -> None:
        if is_hidden or (names and self.is_rendered_math(names)):
            self._skip(reads_math=True)
            return
        if names:
            self.names.append(names)
        self.links += kind == LINK
        if kind in (IMAGE, RARE_INLINE):
            self.start_rare(tag, attrs)

    def _start_block(self, kind: int, tag: str, names: str, is_hidden: bool) -> None:
        if self.pieces or self.lines:
            self._flush()
        self.breaks = 0
        element = len(self.elements)
        self.elements.append([self.element, len(self.texts), 0, len(self.open) - 1, len(self.end_order), is_hidden, 0])
        self.tags.append(tag)
        self.element_names.append(names)
        self.open.append(element)
        if is_hidden:
            self.hidden.append(element)
        if kind in PLACED:
            self._enter(kind, element)
        if element >= self.max_elements:
            self.refuse()

    def _enter(self, kind: int, element: int) -> None:
        in_list, table, row, _, _, pre = self.place
        self.outer_places.append(self.place)
        if kind == PRE:
            self.pre += 1
            self.place = [*self.place[:5], element]
        elif kind == TABLE:
            self.place = [in_list, element, -1, -1, 0, pre]
        elif kind == ROW:
            self.place = [in_list, table, element, -1, 0, pre]
        elif kind == CELL:
            self.place = [in_list, table, row, element, self.cells.get(row, 0), pre]
            self.cells[row] = self.cells.get(row, 0) + 1
        elif in_list < 0:
            self.place = [element, *self.place[1:]]

    def _end_block(self, kind: int) -> None:
        if self.pieces or self.lines:
            self._flush()
        self.breaks = 0
        element = self.open.pop()
        self.elements[element][2] = len(self.texts)
        self.end_order.append(element)
        if self.hidden and self.hidden[-1] == element:
            self.hidden.pop()
        if kind in PLACED:
            self.place = self.outer_places.pop()
            self.pre -= kind == PRE

    def _line_break(self) -> None:
        if self.pre:
            self.pieces.append("\n")
            return
        self.breaks += 1
        if self.breaks == 2:
            self._flush()
        else:
            self._end_line()

    def _end_line(self) -> None:
        if self.pieces:
            if line := " ".join("".join(self.pieces).split()):
                self.lines.append(line)
            self.pieces, self.marks = [], []
        self.formula = None

    def _flush(self) -> None:
        if self.pre and not self.lines:
            text = "".join(self.pieces).strip("\n")
            text = text if not text.isspace() else ""
            self.pieces, self.marks = [], []
        else:
            self._end_line()
            text = "\n".join(self.lines)
            self.lines = []
        if text:
            self.texts.append(text)
            self.inline_names.append(" ".join(self.names))
            self.blocks.append([self.element, self.link_chars, self.pre > 0, self.any_formula, bool(self.hidden), *self.place])
        self.names = []
        self.link_chars, self.breaks, self.formula, self.any_formula = 0, 0, None, False
