"""Collects the blocks of a page from a parser's events: what happens at nearly every event, where a subclass does the rest in Python."""

from typing import Any

# Kinds of tags (one without a kind is of a block-level element). Of text in a line: any, `a`, `img`, those that the subclass reads too.
INLINE: int
LINK: int
IMAGE: int
RARE_INLINE: int
READING: int  # of ruby: its text is a piece of its own
LINE_BREAK: int
# Of what is not read: any, `script`, those that the subclass reads.
SKIPPED: int
SCRIPT: int
RARE_SKIPPED: int
# Of block-level elements: `html` and `body`, which are never hidden, and those in whose place their blocks stand.
ROOT: int
LIST: int
TABLE: int
ROW: int
CELL: int
PRE: int
# Kinds of attributes: whose value is a name of the element; that hide it.
NAME: int
HIDDEN: int
STYLE: int

class PageReader:
    """Takes a parser's events (every element that starts ends, in the order of a tree) and collects blocks and block-level elements.

    A subclass has these methods, called where an event is more than the reader knows: `start_rare(tag, attrs)` and `end_rare(tag)` of
    elements of RARE_INLINE and READING, and at the start of an IMAGE with a hint; `start_skipped(tag, attrs)` of RARE_SKIPPED and a SCRIPT
    with a hint; `start_aside(tag, attrs)` inside what is not read, while `math` is set or `skipping_reads_math` is; `end_aside(tag)` and
    `aside_characters(data)` there, while `math` or `script` is set; `hides(value)` whether a style with a hint hides its element;
    `is_rendered_math(names)` whether an inline element of names with a hint is a form of a formula; `refuse()` at an element too many, to
    raise. What they raise goes through.
    """

    # Of each block, and of each element.
    texts: list[str]
    inline_names: list[str]
    tags: list[str]
    element_names: list[str]
    # Of the block that grows: text of its last line, its finished lines, the names of the inline elements inside.
    pieces: list[str]
    lines: list[str]
    names: list[str]
    marks: list[int]  # for the subclass, emptied at the end of a line
    element: int  # the innermost open block-level element, -1 for none
    links: int  # open links and buttons, whose characters are counted
    breaks: int  # LINE_BREAK since the last text
    any_formula: bool  # of the block that grows
    is_aside: bool  # inside a formula, or inside what is not read
    skipping: int  # open elements since one whose text is not read
    skipping_reads_math: bool
    # The subclass's own; None is read here, and text sets `formula` to None.
    math: Any
    script: Any
    formula: Any

    def __init__(self, kinds: dict[str, int], attributes: dict[str, int], hints: tuple[tuple[str, ...], ...], max_elements: int) -> None:
        """`kinds` of tags and of `attributes`; `hints`: of a style, of the names of an inline element, of the attributes of a script and of
        an image, words of ASCII in lower case of which a value must hold one, in either case, for the subclass to be asked. `refuse` is
        called at element `max_elements` (from 0) and at each behind. Raises ValueError for other hints."""

    def start_element(self, tag: str, attrs: tuple[tuple[str, str | None], ...], /) -> None:
        """The start of an element. Raises TypeError when it is given something else."""

    def end_element(self, tag: str, /) -> None:
        """The end of an element. Raises ValueError when none of the block-level elements is open."""

    def characters(self, data: str, /) -> None:
        """A run of text."""

    def block_columns(self) -> bytes:
        """Columns of all blocks, one behind the other (int64): element, characters in links, whether it is `pre`, has a formula, is hidden;
        and as far as its last line does, it stands in: the outermost list, the innermost table, row and cell (-1 for none each), the number
        of the cell in its row, the innermost `pre`."""

    def element_columns(self) -> bytes:
        """Columns of all elements, one behind the other (int64): parent (-1 for none), first block, end of its blocks, depth, how many
        elements had ended before it began, whether it is hidden, how many cells it has as a row."""

    def ended(self) -> bytes:
        """The elements in the order of their ends (int64)."""
