"""A sheet: one self-contained HTML file, nothing fetched from anywhere; what every page is made of.

Pages have no script, but for those that ask for one: the policy names its hash, so that no other one runs.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .style import FigureRecord

__all__ = ["figure", "formula", "sheet", "table", "text", "theory"]

# makes "self-contained" a promise that the browser enforces
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="$policy">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { --ink: #1a1a1a; --soft: #595959; --line: #d5d5d5; --paper: #fff; --tint: #f3f5f7; --bad: #a32a00;
  --link: #00568a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a8a8a8; --line: #444; --paper: #15181b; --tint: #22272c; --bad: #ff9c70;
    --link: #8cc7ee; }
  figure img { filter: invert(0.91) hue-rotate(180deg); } }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
p, pre, nav, details, .verdict { max-width: 47rem; box-sizing: border-box; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 0 0 0.4rem; }
.verdict { background: var(--tint); border-left: 0.3rem solid #0072b2; padding: 0.7rem 1rem; }
.verdict p { margin: 0.45rem 0; } .verdict .headline { font-size: 1.15rem; font-weight: 600; }
.soft, figcaption, caption { color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.3rem; }
caption span { display: block; max-width: min(45rem, calc(100vw - 2rem)); }
nav { margin: 1rem 0; } nav a { margin-right: 1.1rem; white-space: nowrap; } a { color: var(--link); }
summary { cursor: pointer; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
td.wrap { white-space: normal; } td.long { white-space: normal; min-width: 14rem; }
thead th { border-bottom: 2px solid var(--soft); white-space: normal; }
tbody th { font-weight: normal; white-space: normal; min-width: 6rem; } .bad { color: var(--bad); font-weight: 600; }
figure { margin: 1.4rem 0 2rem; max-width: 47rem; break-inside: avoid; }
figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line); box-sizing: border-box; }
pre { overflow-x: auto; background: var(--tint); padding: 0.7rem; font-size: 0.85rem; }
sub { line-height: 0; }
@media screen and (max-width: 45rem) {
  table.cards thead { display: none; } table.cards, table.cards tbody, table.cards caption { display: block; }
  table.cards tr { display: block; border-bottom: 1px solid var(--line); padding: 0.35rem 0; }
  table.cards tbody th { display: block; border: 0; padding: 0; font-weight: 600; }
  table.cards td { display: flex; gap: 0.8rem; border: 0; padding: 0.05rem 0; white-space: normal; min-width: 0;
    overflow-wrap: anywhere; }
  table.cards td[data-label]::before { content: attr(data-label); color: var(--soft); flex: 0 0 9rem; } }
@media print { :root { --ink: #000; --soft: #444; --line: #ccc; --paper: #fff; --tint: #f3f5f7; --bad: #a32a00; }
  body { max-width: none; padding: 0; font-size: 9pt; line-height: 1.35; } p, .verdict { max-width: none; }
  .verdict details::details-content { content-visibility: visible; } summary { display: none; }
  nav, .files { display: none; } h2, h3 { break-after: avoid; } h2 { margin-top: 1rem; }
  .scroll { overflow: visible; } th, td { padding: 0.1rem 0.5rem 0.1rem 0; white-space: normal; }
  tr { break-inside: avoid; } pre { white-space: pre-wrap; font-size: 7.5pt; max-width: none; }
  figure { display: inline-block; width: 48%; margin: 0.4rem 1% 0.6rem 0; vertical-align: top; }
  figure img { width: auto; max-width: 100%; max-height: 8cm; border: 0; filter: none; }
  figcaption, caption, .soft { font-size: 7.5pt; } }
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="soft">$subtitle</p>
</header>
<main>
<section class="verdict" aria-label="Verdict">
$verdict
</section>
$contents
$sections
</main>
$script</body>
</html>
""")


Cell = str | tuple[str, str]  #: text, or (text, class of the cell)


def text(words: object) -> str:
    """Plain text as HTML: escaped, with subscripts where our texts have them, and no line break before a unit."""
    words = re.sub(r"(?<=[\d)]) (?=(%|µs|ms|s|min|h)\b|%)", "\u00a0", html.escape(str(words)))
    return re.sub(r"([τχΣ∂])_(int|abs|μ)", r"\1<sub>\2</sub>", words)


def formula(words: str) -> str:
    """The plain-text formula of a convention with Greek letters and exponents; couplings keep the names of cards."""
    for plain, fine in (("sum_mu", "Σ_μ"), ("d_mu", "∂_μ"), ("phi", "φ"), ("^2", "²"), ("^4", "⁴"), ("+mu)", "+μ)")):
        words = words.replace(plain, fine)
    return words.replace("-", "−")


def table(caption: str, header: Iterable[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """A table as HTML.

    Parameters
    ----------
    caption : str
    header : iterable of str
    rows : iterable of sequence of cells
        A cell is plain text, or (text, class of the cell). The first cell of a row is the row's header. A row that has
        nothing but dashes after that is left out: there is nothing to say about it.

    Returns
    -------
    str
    """
    rows = [row for row in rows if any(cell not in ("–", ("–", "wrap")) for cell in row[1:])]

    def cell(content: Cell, tag: str, attributes: str = "") -> str:
        words, kind = content if isinstance(content, tuple) else (content, "")
        kind = f' class="{kind}"' if kind else ""
        return f"<{tag}{attributes}{kind}>{text(words)}</{tag}>"

    scope = ' scope="row"'
    labels = [name[0] if isinstance(name, tuple) else name for name in header]

    def labelled(number: int, content: Cell) -> str:
        label = labels[number] if number < len(labels) else ""
        return cell(content, "td", f' data-label="{html.escape(label)}"' if label else "")

    head = "".join(cell(name, "th", ' scope="col"') for name in header)
    body = "\n".join(
        "<tr>" + cell(row[0], "th", scope) + "".join(labelled(i, c) for i, c in enumerate(row[1:], 1)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="cards"><caption><span>{text(caption)}</span></caption>\n'
        f"<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def figure(record: "FigureRecord") -> str:
    """A figure as HTML, its PNG embedded as a data URI."""
    png = record.png
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])  # IHDR, PNG 1.2 section 4.1.1
    links = ", ".join(
        f'<a href="figures/{record.name}.{kind}">{kind.upper()}</a>' for kind in ("png", "pdf", "svg", "csv")
    )
    data = base64.b64encode(png).decode()
    return (
        f'<figure id="{record.name}"><h3>{text(record.title)}</h3>\n<img alt="{html.escape(record.alt)}" '
        f'width="{width}" height="{height}" src="data:image/png;base64,{data}">\n'
        f'<figcaption>{text(record.caption)} <span class="files">{links}</span></figcaption></figure>'
    )


def theory(description: Mapping[str, Any]) -> str:
    """A table of the couplings in every convention that can express this theory, as HTML."""
    from ..action import CONVENTIONS, Phi4
    from ..errors import UserError

    if description.get("name") != "phi4":
        return f"<pre>{html.escape(json.dumps(description, indent=2, ensure_ascii=False))}</pre>"
    action, rows = Phi4.from_description(dict(description)), []
    for name, convention in CONVENTIONS.items():
        try:
            couplings, scale = action.in_convention(name)
        except UserError:
            continue  # this theory has no such form
        values = ", ".join(f"{key} = {value:.6g}".replace("-", "−") for key, value in couplings.items())
        mark = " (used here)" if name == action.convention else ""
        rows.append(
            (name + mark, values, f"{scale:.5g}", (f"{formula(convention.formula)}; {convention.source}", "long"))
        )
    return table(
        "The same theory in the conventions of the literature; φ here = s φ there, so ⟨|m|⟩ scales with s, χ with s².",
        ("convention", "couplings", "s", "action per site, source"),
        rows,
    )


def sheet(
    title: str,
    subtitle: str,
    verdict: Sequence[str],
    sections: Iterable[tuple[str, str]],
    details: Sequence[str] = (),
    script: str = "",
) -> str:
    """The page as a string.

    Parameters
    ----------
    title, subtitle : str
    verdict : sequence of str
        The headline, then sentences.
    sections : sequence of (heading, body)
        Bodies are HTML; empty ones are left out.
    details : sequence of str
        Further sentences, folded away below the verdict.
    script : str
        JavaScript that works on the page alone; without it everything is there to be read.
    """
    headline, *sentences = verdict
    shown = [(heading, body) for heading, body in sections if body]
    links = "\n".join(f'<a href="#{_anchor(heading)}">{text(heading)}</a>' for heading, _ in shown)
    folded = "\n".join(f"<p>{text(sentence)}</p>" for sentence in details)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return PAGE.substitute(
        policy=POLICY + (f"; script-src 'sha256-{digest}'" if script else ""),
        script=f"<script>{script}</script>\n" if script else "",
        title=text(title),
        subtitle=text(subtitle),
        verdict=f'<p class="headline">{text(headline)}</p>\n'
        + "\n".join(f"<p>{text(s)}</p>" for s in sentences)
        + (f"\n<details><summary>In full, with all numbers</summary>\n{folded}\n</details>" if folded else ""),
        contents=f'<nav aria-label="Contents">\n{links}\n</nav>' if len(shown) > 1 else "",
        sections="\n".join(f'<section id="{_anchor(t)}">\n<h2>{text(t)}</h2>\n{body}\n</section>' for t, body in shown),
    )


def _anchor(heading: str) -> str:
    """The id of a section."""
    return "section-" + re.sub(r"[^a-z]+", "-", heading.lower()).strip("-")
