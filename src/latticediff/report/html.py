"""The page: one self-contained HTML file, no script, nothing fetched from anywhere."""

import base64
import html
import json
import re
from string import Template

from .numbers import OBSERVABLES, TAU_NAMES, break_even, cost_ratio, count, differences, seconds, value_error
from .verdict import CHECK_ALARM, SIGMA_ALARM, describe_action, verdict

__all__ = ["page"]

# the policy makes "self-contained" a promise that the browser enforces
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { --ink: #1a1a1a; --soft: #595959; --line: #d5d5d5; --paper: #fff; --tint: #f3f5f7; --bad: #a32a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a8a8a8; --line: #444; --paper: #15181b; --tint: #22272c; --bad: #ff9c70; } }
body { margin: 0 auto; padding: 1rem; max-width: 47rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 0 0 0.4rem; }
.verdict { background: var(--tint); border-left: 0.3rem solid #0072b2; padding: 0.7rem 1rem; }
.verdict p { margin: 0.45rem 0; } .verdict .headline { font-size: 1.15rem; font-weight: 600; }
.soft, figcaption, caption { color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.3rem; }
caption span { display: block; max-width: min(45rem, calc(100vw - 2rem)); }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
td.wrap { white-space: normal; } td.long { white-space: normal; min-width: 14rem; }
thead th { border-bottom: 2px solid var(--soft); }
tbody th { font-weight: normal; white-space: normal; min-width: 6rem; } .bad { color: var(--bad); font-weight: 600; }
figure { margin: 1.4rem 0 2rem; break-inside: avoid; }
figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line); box-sizing: border-box; }
pre { overflow-x: auto; background: var(--tint); padding: 0.7rem; font-size: 0.85rem; }
sub { line-height: 0; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } pre { white-space: pre-wrap; }
  figure img { width: auto; max-width: 100%; max-height: 10.5cm; border: 0; } table { break-inside: avoid; } }
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
$sections
</main>
</body>
</html>
""")


def _text(text):
    """Escape, keep numbers and their units on one line, set the few subscripts that the words use."""
    text = re.sub(r"(?<=[\d)]) (?=(%|µs|ms|s|min|h)\b|%)", "\u00a0", html.escape(str(text)))
    return re.sub(r"([τχΣ∂])_(int|abs|μ)", r"\1<sub>\2</sub>", text)


def _formula(text):
    """The plain-text formula of a convention with its Greek letters; couplings keep the names that cards use."""
    for plain, fine in (("sum_mu", "Σ_μ"), ("d_mu", "∂_μ"), ("phi", "φ"), ("^2", "²"), ("^4", "⁴"), ("+mu)", "+μ)")):
        text = text.replace(plain, fine)
    return text.replace("-", "−")


def _table(caption, header, rows):
    """Rows of cells: plain text, or (text, class); the first of a row is its header. Rows of dashes are left out."""
    rows = [row for row in rows if any(cell not in ("–", ("–", "wrap")) for cell in row[1:])]

    def cell(content, tag, attributes=""):
        content, kind = content if isinstance(content, tuple) else (content, "")
        kind = f' class="{kind}"' if kind else ""
        return f"<{tag}{attributes}{kind}>{_text(content)}</{tag}>"

    head = "".join(cell(name, "th", ' scope="col"') for name in header)
    body = "\n".join(
        "<tr>" + cell(row[0], "th", ' scope="row"') + "".join(cell(c, "td") for c in row[1:]) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><caption><span>{_text(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _figure(record):
    png = record.png
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])  # IHDR, PNG 1.2 section 4.1.1
    data = base64.b64encode(png).decode()
    return (
        f'<figure id="{record.name}"><h3>{_text(record.title)}</h3>\n<img alt="{html.escape(record.alt)}" '
        f'width="{width}" height="{height}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{_text(record.caption)}</figcaption></figure>"
    )


def _samplers(run):
    chains = run.chains

    def pairs(values):
        return [value_error(*pair) if pair is not None else "–" for pair in values]

    rows = [
        ("chains × updates", *(f"{c.n_chains} × {c.n_updates}" for c in chains)),
        *([("recorded every", *(str(c.thin) for c in chains))] if any(c.thin > 1 for c in chains) else []),
        ("acceptance", *("–" if c.acceptance is None else f"{100 * c.acceptance:.1f} %" for c in chains)),
        ("ESS, reverse", *pairs(c.ess_reverse for c in chains)),
        ("ESS, forward", *pairs(c.ess_forward for c in chains)),
    ]
    for name, symbol in TAU_NAMES.items():
        if any(name in chain.tau_int for chain in chains):
            rows.append((f"τ_int of {symbol}", *pairs(c.tau_int.get(name) for c in chains)))
    return _table(
        "τ_int = 1/2 + Σ ρ(t) in updates, 0.5 is independent. ESS, effective sample size: reverse over proposals, "
        "forward over held-out reference data; 1 is perfect.",
        ("", *(chain.label for chain in chains)),
        rows,
    )


def _observables(run):
    rows, legend = [], []
    for name, (symbol, definition) in OBSERVABLES.items():
        row = [symbol]
        for chain in run.chains:
            value = chain.observables.get(name)
            d = None if chain is run.reference else differences(chain, run.reference).get(name)
            text = "–" if value is None else value_error(*value)
            text += "" if d is None else f", {d:+.1f}σ".replace("-", "−")
            row.append((text, "bad") if d is not None and abs(d) > SIGMA_ALARM else text)
        if any(chain.observables.get(name) for chain in run.chains):
            legend.append(f"{symbol}: {definition}")
            rows.append(tuple(row))
    second = f", then the difference from {run.reference.label} in combined errors" if len(run.chains) > 1 else ""
    return _table(
        f"{'; '.join(legend)}. Lattice units, field normalisation of the convention named above; value(error of the "
        f"last digits), one standard error, autocorrelation included{second}.",
        ("", *(chain.label for chain in run.chains)),
        rows,
    )


def _costs(run):
    def row(title, cell):
        return (title, *(cell(chain) for chain in run.chains))

    def price(chain):
        found = chain.per_independent_sample(chain.seconds_per_update)
        return seconds(*found) if found else "–"

    def evaluations(chain):
        found = chain.per_independent_sample(chain.evaluations_per_update)
        return value_error(*found) if found else "–"

    def ratio(chain):
        found = None if chain is run.reference else cost_ratio(chain, run.reference)
        return value_error(*found) if found else "–"

    def repaid(chain):
        if chain is run.reference or cost_ratio(chain, run.reference) is None:
            return "–"
        even = break_even(chain, run.reference)
        return "never" if even is None else f"{count(even)} samples" if even else "from the first sample"

    items = list(dict.fromkeys(item for chain in run.chains for item in chain.setup_seconds))
    rows = [
        row("per update of one chain", lambda c: seconds(c.seconds_per_update)),
        row("slowest observable", lambda c: TAU_NAMES.get(c.slowest, c.slowest or "–")),
        row("per independent sample", price),
        row("evaluations for it", evaluations),
        row("of what", lambda c: ("–" if c.evaluations_per_update is None else c.evaluation_kind, "wrap")),
        *(row(f"before the first: {item}", lambda c, i=item: seconds(c.setup_seconds.get(i))) for item in items),
    ]
    if len(run.chains) > 1:
        rows.append(row(f"times cheaper than {run.reference.label}", ratio))
        rows.append(row("break-even, all included", repaid))
    where = f" on {run.device}" if run.device else ""
    return _table(
        f"Wall time{where}. An independent sample is 2τ_int updates, with τ_int of the slowest observable. Evaluations "
        "of different kinds are not of equal price; seconds are what counts.",
        ("", *(chain.label for chain in run.chains)),
        rows,
    )


def _checks(run):
    names = {
        "schwinger_dyson": "⟨Σ φ ∂S/∂φ⟩ / V (Schwinger-Dyson), 1 exactly",
        "exp_minus_delta_h": "⟨exp(−ΔH)⟩ of HMC, 1 exactly",
        "log_weight_step_doubling_median": "change of log_weight when the integrator's steps are doubled, median",
        "log_weight_step_doubling_max": "change of log_weight when the integrator's steps are doubled, largest",
    }
    rows = []
    for name in [*names, *(n for n in run.checks if n not in names)]:
        value = run.checks.get(name)
        if isinstance(value, tuple | list):
            off = abs(value[0] - 1) / value[1] if value[1] else None
            said = "" if off is None else f"{off:.1f}σ from 1"
            bad = off is not None and off > CHECK_ALARM and name in names
            rows.append((names.get(name, name), value_error(*value), (said, "bad") if bad else said))
        elif value is not None:
            rows.append((names.get(name, name), f"{value:.2g}" if isinstance(value, float) else value, ""))
    return (
        _table("Identities that hold whatever the couplings, and the integrator's error.", ("", "value", ""), rows)
        if rows
        else ""
    )


def _theory(run):
    """The same couplings in every convention that can express them."""
    from ..action import CONVENTIONS, Phi4
    from ..errors import UserError

    if run.action.get("name") != "phi4":
        return f"<pre>{html.escape(json.dumps(run.action, indent=2, ensure_ascii=False))}</pre>"
    action, rows = Phi4.from_description(run.action), []
    for name, convention in CONVENTIONS.items():
        try:
            couplings, scale = action.in_convention(name)
        except UserError:
            continue  # this theory has no such form
        values = ", ".join(f"{key} = {value:.6g}".replace("-", "−") for key, value in couplings.items())
        mark = " (used here)" if name == action.convention else ""
        rows.append(
            (name + mark, values, f"{scale:.5g}", (f"{_formula(convention.formula)}; {convention.source}", "long"))
        )
    return _table(
        "The same theory in the conventions of the literature; φ here = s φ there, so ⟨|m|⟩ scales with s, χ with s².",
        ("convention", "couplings", "s", "action per site, source"),
        rows,
    )


def _about(run):
    rows = [
        ("lattice", "×".join(map(str, run.shape)) + ", periodic, lattice units"),
        ("seed", "–" if run.seed is None else str(run.seed)),
        ("made", run.created),
        ("device", run.device or "–"),
        ("versions", (", ".join(f"{k} {v}" for k, v in run.versions.items()) or "–", "wrap")),
    ]
    rows += [(f"seconds: {name}", f"{value:.1f}") for name, value in run.seconds.items()]
    text = _table("Where this page comes from; report.json holds every number, figures/*.csv the data.", ("", ""), rows)
    for chain in run.chains:
        if chain.algorithm:
            body = html.escape(json.dumps(chain.algorithm, indent=2, ensure_ascii=False, default=str))
            text += f"<details><summary>{_text(chain.label)}: algorithm</summary><pre>{body}</pre></details>"
    if run.card:
        text += f"<details><summary>Effective run-card</summary><pre>{html.escape(run.card)}</pre></details>"
    return text


def page(run, records):
    """The page as a string.

    Parameters
    ----------
    run : RunResult
    records : sequence of FigureRecord
        From `figures.draw`; embedded as PNG data URIs.
    """
    headline, sentences = verdict(run)
    figures = {record.name: _figure(record) for record in records}

    def some(*names):
        return "\n".join(figures.pop(name) for name in names if name in figures)

    sections = [
        ("Samplers", _samplers(run) + some("history", "autocorrelation", "log_weight")),
        ("Observables", _observables(run) + some("observables", "distribution", "propagator", "correlator")),
        ("Cost", _costs(run) + some("cost", "amortised")),
        ("Checks", _checks(run)),
        ("Training", some("training")),
        ("Action and conventions", _theory(run)),
        ("About this run", some(*list(figures)) + _about(run)),
    ]
    return PAGE.substitute(
        title=_text(run.title),
        subtitle=_text(
            f"{describe_action(run.action)}; lattice {'×'.join(map(str, run.shape))}"
            + (f"; seed {run.seed}" if run.seed is not None else "")
            + f"; {run.created[:10]}"
            + (f"; {run.device}" if run.device else "")
            + (f"; latticediff {run.versions['latticediff']}" if "latticediff" in run.versions else "")
        ),
        verdict=f'<p class="headline">{_text(headline)}</p>\n' + "\n".join(f"<p>{_text(s)}</p>" for s in sentences),
        sections="\n".join(f"<section>\n<h2>{t}</h2>\n{body}\n</section>" for t, body in sections if body),
    )
