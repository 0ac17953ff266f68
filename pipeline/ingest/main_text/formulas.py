"""Formulas of a page as TeX: from annotations, `alttext`, scripts and images where a page carries its source, else from the MathML itself.

Presentation MathML (MathML 3, chapter 3) becomes TeX by one rule an element, from the inside out, so that no depth of nesting needs a deep
stack.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_DEPTH = 100  # a formula nested deeper is written as its text
_MATH_IMAGE_NAMES = ("mwe-math-fallback", "tex", "latex", "math", "mathimg", "ee_img")
_OPERATORS = {
    "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∞": r"\infty ",
    "→": r"\to ", "∈": r"\in ", "×": r"\times ", "⋅": r"\cdot ", "±": r"\pm ", "∂": r"\partial ", "≈": r"\approx ",  # noqa: RUF001
    "\u2061": "", "\u2062": "", "\u2063": "", "\u2064": "", "\u2212": "-", "&": r"\&", "%": r"\%", "#": r"\#", "{": r"\{", "}": r"\}",
}  # fmt: skip
_ACCENTS = {
    "¯": "bar", "‾": "bar", "^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde", "→": "vec", "⃗": "vec", "˙": "dot", ".": "dot", "¨": "ddot",  # noqa: RUF001
}  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """A formula's TeX; `is_source` where the page itself gave it, not its MathML."""

    tex: str
    is_display: bool
    is_source: bool


def with_delimiters(formula: Formula) -> str:
    """The formula as it stands in text: between dollar signs, two where it stands on its own; as it is where it has its own delimiters."""
    tex = formula.tex
    if tex.startswith(("$", "\\(", "\\[", "\\begin{")):
        return tex
    return f"$${tex}$$" if formula.is_display else f"${tex}$"


def is_math_image(attrs: tuple[tuple[str, str | None], ...]) -> bool:
    """Whether an image shows a formula and its `alt` holds the source: by its class, and by an address that renders TeX."""
    found = {name: value or "" for name, value in attrs}
    alt = found.get("alt", "")
    if not alt or alt.isspace():
        return False
    names = found.get("class", "").lower().split()
    if any(name.startswith(mark) for name in names for mark in _MATH_IMAGE_NAMES):
        return True
    address = found.get("src", "")
    return "latex.php" in address or "latex.codecogs.com" in address or "/math/render/" in address or "\\displaystyle" in alt


class MathML:
    """Reads one `<math>` from the parser's events."""

    def __init__(self, attrs: tuple[tuple[str, str | None], ...]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.alt_text = found.get("alttext", "").strip()
        self.is_display = found.get("display") == "block" or found.get("mode") == "display"
        self.open: list[tuple[str, list[str], dict[str, str]]] = [("math", [], found)]
        self.annotation: list[str] | None = None
        self.source = ""
        self.outside = 0  # open elements inside an annotation that is not TeX

    @property
    def depth(self) -> int:
        """Open elements inside the formula."""
        return len(self.open) - 1 + self.outside + (self.annotation is not None)

    def start(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        """A start tag inside the formula."""
        if self.outside or self.annotation is not None:
            self.outside += 1
        elif tag == "annotation" and any(name == "encoding" and "tex" in (value or "").lower() for name, value in attrs):
            self.annotation = []
        elif tag in ("annotation", "annotation-xml"):
            self.outside = 1
        else:
            self.open.append((tag, [], {name: value or "" for name, value in attrs}))

    def end(self, tag: str) -> None:
        """The end of an element inside the formula."""
        if self.outside:
            self.outside -= 1
        elif self.annotation is not None:
            self.source, self.annotation = "".join(self.annotation).strip(), None
        elif len(self.open) > 1:
            name, parts, attrs = self.open.pop()
            tex = _element(name, parts, attrs) if len(self.open) < MAX_DEPTH else "".join(parts)
            self.open[-1][1].append(tex)

    def characters(self, data: str) -> None:
        """Text inside the formula."""
        if self.annotation is not None:
            self.annotation.append(data)
        elif not self.outside:
            tag, parts, _ = self.open[-1]
            words = data.split()
            if tag == "mfrac" and len(words) == 2:
                parts += words
            elif text := (data if tag == "mtext" else " ".join(words)):
                parts.append(text)

    def formula(self) -> Formula:
        """The formula, when its end tag has come."""
        while len(self.open) > 1:
            self.end("")
        if source := self.source or self.alt_text:
            return Formula(source, self.is_display, is_source=True)
        return Formula("".join(self.open[0][1]).strip(), self.is_display, is_source=False)


def _group(tex: str) -> str:
    """As the argument of a command or a script: in braces unless it is one character."""
    return tex if len(tex) == 1 else f"{{{tex.strip()}}}"


def _element(tag: str, parts: list[str], attrs: dict[str, str]) -> str:
    """The TeX of an element from that of its children."""
    text = "".join(parts)
    if tag == "mo":
        return _OPERATORS.get(text, text)
    if tag == "mi":
        return f"\\{text} " if text in ("sin", "cos", "tan", "log", "ln", "exp", "lim", "max", "min", "det") else text
    if tag == "mtext":
        return f"\\text{{{text}}}" if text.strip() else " "
    if tag in ("msup", "msub", "mover", "munder", "mfrac", "mroot") and len(parts) == 2:
        return _pair(tag, parts[0], parts[1])
    if tag in ("msubsup", "munderover") and len(parts) == 3:
        return f"{_group(parts[0])}_{_group(parts[1])}^{_group(parts[2])}"
    if tag == "msqrt":
        return f"\\sqrt{{{text}}}"
    if tag == "mspace":
        return " "
    if tag == "mtable":
        return "\\begin{matrix}" + " \\\\ ".join(parts) + "\\end{matrix}"
    if tag in ("mtr", "mlabeledtr"):
        return " & ".join(parts)
    if tag == "mfenced":
        return attrs.get("open", "(") + ",".join(parts) + attrs.get("close", ")")
    return text


def _pair(tag: str, first: str, second: str) -> str:
    if tag == "mfrac":
        return f"\\frac{{{first}}}{{{second}}}"
    if tag == "mroot":
        return f"\\sqrt[{second}]{{{first}}}"
    if tag == "mover" and second.strip() in _ACCENTS:
        return f"\\{_ACCENTS[second.strip()]}{{{first}}}"
    return f"{_group(first)}{'^' if tag in ('msup', 'mover') else '_'}{_group(second)}"
