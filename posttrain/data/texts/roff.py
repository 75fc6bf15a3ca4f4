"""A manual page's source -> plain text, without a formatter: headings, paragraphs and examples as a reader would see them.

Covers what man(7) and mdoc(7) pages are mostly made of: fonts and sizes are dropped, special characters written out, lines
of macros kept for the words they carry. Fails on tables (tbl), equations and pages that define macros of their own, which
come out as their raw cells or not at all; text in between is not hurt.
"""

from __future__ import annotations

import re
import shlex

SILENT = {  # requests and macros whose arguments are no text
    *("TH", "Dd", "Dt", "Os", "ad", "nh", "hy", "de", "ds", "nr", "so", "if", "ie", "el", "ft", "ne", "sp", "in", "ti", "ta", "ps"),
    *(
        "PD",
        "RS",
        "RE",
        "UE",
        "ME",
        "EX",
        "EE",
        "nf",
        "fi",
        "na",
        "ev",
        "tr",
        "rm",
        "als",
        "cs",
        "ig",
        "lf",
        "hw",
        "mk",
        "rt",
        "\\}",
    ),
    *("Bl", "El", "Bd", "Ed", "Bk", "Ek", "Sm", "Rs", "Re", "TS", "TE", "IX", "INDENT", "UNINDENT"),
}
HEADINGS = {"SH", "SS", "Sh", "Ss"}
PARAGRAPHS = {"PP", "P", "LP", "Pp", "TP", "TQ", "HP", "IP", "It"}
MDOC = {"Fl": "-", "Ar": "", "Nm": "", "Op": "", "Cm": "", "Pa": "", "Xr": "", "Ic": "", "Ev": "", "Va": "", "Fa": "", "Li": ""}
CHARACTERS = {
    "aq": "'",
    "cq": "’",
    "oq": "‘",
    "dq": '"',
    "lq": "“",
    "rq": "”",
    "em": "—",
    "en": "–",
    "hy": "-",
    "bu": "•",
    "co": "©",
    "rs": "\\",
    "ti": "~",
    "ha": "^",
    "ga": "`",
    "mi": "-",
    "->": "→",
    "<-": "←",
    ">=": "≥",
    "<=": "≤",
    "ss": "ß",
    "de": "°",
    ":a": "ä",
    ":o": "ö",
    ":u": "ü",
    ":A": "Ä",
    ":O": "Ö",
    ":U": "Ü",
    "'e": "é",
    "`e": "è",
    "'a": "á",
    "'o": "ó",
    "'i": "í",
}
_ESCAPE = re.compile(
    r"\\(?:"
    r"f(?:\[[^\]]*\]|\(..|.)"  # fonts
    r"|s[+-]?(?:\[[^\]]*\]|\(..|\d)"  # sizes
    r"|\((?P<two>..)|\[(?P<named>[^\]]*)\]"  # special characters
    r"|\*(?:\(..|\[[^\]]*\]|.)"  # strings
    r"|[nmMgkF](?:\(..|\[[^\]]*\]|.)"  # registers, colours
    r"|[hvwlLDbXZoA]'[^']*'"  # motions and drawings
    r"|(?P<one>.)|$)"
)
ONE = {"-": "-", "e": "\\", "\\": "\\", " ": " ", "~": " ", "0": " ", "'": "'", "`": "`", ".": ".", "t": "\t", "E": "\\"}


def plain(source: str) -> str:
    """The text of a page."""
    lines: list[str] = []
    until = ""  # the line that ends a definition or a comment
    for line in source.splitlines():
        if until:
            until = "" if line.startswith(until) else until
        elif line.startswith((".", "'")):
            words = line[1:].split()
            until = ".." if words and words[0] in ("de", "ig") else ""
            lines += _macro(line[1:].strip())
        else:
            lines.append(_written(line))
    text = "\n".join(line.rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _macro(line: str) -> list[str]:
    """What a line of a macro puts into the text: nothing, a heading with space around, or its words."""
    name, _, rest = line.partition(" ")
    if name.startswith('\\"') or not name or name in SILENT:
        return []
    words = [_written(word) for word in _arguments(rest)]
    if name in HEADINGS:
        return ["", " ".join(words).upper() if name in ("SH", "Sh") else " ".join(words), ""]
    if name in PARAGRAPHS:  # IP's second argument is an indentation
        return ["", *([words[0]] if name == "IP" and words else [" ".join(words)] if name == "It" and words else [])]
    if name in ("BR", "RB", "IR", "RI", "BI", "IB", "SB"):  # fonts that alternate within one word
        return ["".join(words)]
    if name in MDOC:
        return [MDOC[name] + " ".join(words)]
    return [" ".join(words)] if words else []


def _arguments(text: str) -> list[str]:
    """Words of a macro's line; double quotes hold several together."""
    if '"' not in text:
        return text.split()
    splitter = shlex.shlex(text, posix=True, punctuation_chars=False)
    splitter.whitespace_split, splitter.commenters, splitter.escape, splitter.quotes = True, "", "", '"'
    try:
        return list(splitter)
    except ValueError:  # a quote that is never closed
        return text.replace('"', "").split()


def _written(text: str) -> str:
    return _ESCAPE.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    name = match["two"] or match["named"]
    if name:
        if re.fullmatch(r"u[0-9A-F]{4,5}", name):
            return chr(int(name[1:], 16))
        return CHARACTERS.get(name, "")
    return ONE.get(match["one"] or "", "")
