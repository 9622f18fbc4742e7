"""The page: template, style sheet, scripts and data in one file that makes no request.

Names from the data reach the page only as JSON and as text nodes, never as markup. The content security policy in
the page's head allows only the style and the script whose hashes it holds, and forbids every request.
"""

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

__all__ = ["GENERATOR", "build_page"]

GENERATOR = '<meta name="generator" content="labelfix">'
SCRIPTS = (
    "dom.js", "charts.js", "tables.js", "suspects.js", "detail.js", "confusions.js", "annotators.js", "overview.js",
    "main.js",
)  # fmt: skip


def build_page(contents: dict[str, Any], thumbnails: str) -> str:
    """Return the page for `contents` (plain JSON values) and `thumbnails` (base64)."""
    style = _part("report.css")
    script = '"use strict";\n(() => {\n' + "\n".join(map(_part, SCRIPTS)) + "})();\n"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "generator": GENERATOR,
        "policy": policy,
        "style": style,
        "script": script,
        "data": inert_json(contents),
        "thumbnails": thumbnails,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _part("template.html"))


def inert_json(value: Any) -> str:
    """Return JSON that no HTML parser takes for markup: ``<``, ``>`` and ``&`` are written as escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")


def _part(name: str) -> str:
    return (files("labelfix.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
