"""The page of a study: what it says is what study.json says, it fits a phone, and its tables sort."""

import csv
import json
import math
import re
import shutil
import subprocess

import pytest

from latticediff.errors import FileError
from latticediff.report.figures.study import draw_study
from latticediff.report.figures.study_axes import horizontal
from latticediff.report.numbers import seconds, value_error
from latticediff.report.study import study_markdown, study_page, write_study
from latticediff.stages.study import rewrite_page
from latticediff.study.gathered import compared, fitted, held_against, ratios
from latticediff.study.quantities import DERIVED, OBSERVABLES
from latticediff.study.samplers import SAMPLERS
from latticediff.study.verdict import verdict

CHROMIUM = shutil.which("chromium")
PILOTS = [
    {"trajectory_length": 1.0, "target_acceptance": 0.85, "tau_int": [2.0, 0.1], "cost": [40.0, 2.0]},
    {"trajectory_length": 2.0, "target_acceptance": 0.85, "tau_int": [None, None], "cost": [None, None]},
]
TUNED = {
    "trajectory_length": 1.0,
    "tuning": {"target_acceptance": 0.85, "n_steps_and_acceptance": [[4, 0.7], [8, 0.9], [6, 0.84]]},
}
WEIGHTS = {"low": -0.3, "high": 0.3, "counts": [2, 8, 2]}
FIGURES = 14
FILM = {"sigma": [4.0, 0.5, 0.0], "fields": [[[4.0, None], [None, -4.0]]] * 2 + [[[0.5, 0.1], [0.2, -0.5]]]}


def cell(theory, extent, sampler, tau, seconds):
    learned = SAMPLERS[sampler].is_learned
    each = [seconds, 0.01 * seconds]
    taus = {key: [tau, 0.02 * tau] for key in OBSERVABLES}
    cost = {key: [2 * tau * seconds, 0.03 * tau * seconds] for key in OBSERVABLES}
    return {
        "theory": theory,
        "sampler": sampler,
        "L": extent,
        "digest": f"{theory:04d}{len(sampler):016d}",
        "model": f"phi4-A-L{extent}-fast" if learned else None,
        "acceptance": 0.8766,
        "acceptance_error": 0.0031,
        "n_updates": 440,
        "n_dropped": 30,
        "n_chains": 64,
        "tau_int": taus,
        "window_found": dict.fromkeys(OBSERVABLES, extent < 32),
        "average": {key: [1.0 + 0.001 * len(sampler), 0.01] for key in OBSERVABLES},
        "evaluations_per_update": 11.0,
        "counted": "gradients",
        "seconds_per_update": {"processor": each, "wall": each},
        "cost": {"processor_seconds": cost, "wall_seconds": cost, "evaluations": cost, "gradient_equivalents": cost},
        "history": [math.sin(t / 3) for t in range(50)],
        "autocorrelation": [math.exp(-t / tau) for t in range(40)],
        "window": dict.fromkeys(OBSERVABLES, 12),
        "histogram": {"low": -1.0, "high": 1.0, "counts": [1, 5, 9, 5, 1]},
        "derived": {"chi": [0.1 * extent**1.75, 0.1], "binder": [0.25, 0.01]},
        "propagator": [[10.0 / (1 + j), 0.1] for j in range(extent // 2 + 1)],
        "effective_mass": [[0.5, 0.01], [0.5, 0.1], *[None] * (extent // 2 - 2)],
        "configuration": [[0.5, -0.5], [0.25, 0.0]],
        "kernel": {"tuning": {"search": {"pilots": PILOTS}}} if sampler == "hmc" else {"parts": [{}, TUNED]},
        **({"log_weights": {"drawn": WEIGHTS, "given": WEIGHTS}} if learned else {}),
        **(
            {"ess_reverse": [0.97, 0.001], "ess_forward": [0.95, 0.002], "forward_fields": "2048 fields"}
            if learned
            else {}
        ),
        **({"training_seconds": 200.0, "data_seconds": 7.0, "ancestor_seconds": 110.0} if learned else {}),
        **({"film": FILM} if learned and extent < 32 else {}),
    }


@pytest.fixture(scope="module")
def document():
    extents = (8, 16, 32)
    cells = []
    for theory, extent in enumerate(extents):
        cells.append(cell(theory, extent, "hmc", 0.02 * extent**2, 1e-7 * extent**2))
        cells.append(cell(theory, extent, "fast", 0.6, 2e-7 * extent**2))
    couplings = [{"lam": 6.008}, {"lam": 4.98}, {"lam": 4.572}]
    made = {
        "study_version": 1,
        "name": "<toy>",
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {"latticediff": "0.1.0"},
        "command": "latticediff study card.toml --out toy",
        "card": {
            "study": {"name": "toy", "fit_from": 8},
            "published": [{"L": 32, "ess": 0.904, "told": "a flow, 2022"}],
        },
        "reference": "hmc",
        "samplers": {name: {"label": SAMPLERS[name].label, "told": SAMPLERS[name].told} for name in ("hmc", "fast")},
        "observables": dict(OBSERVABLES),
        "theories": [
            {
                "label": f"{L}x{L}, lam = {c['lam']:g}",
                "shape": [L, L],
                "couplings": c,
                "action": {"name": "phi4", "convention": "A", "couplings": {"m2": -4.0, **c}},
                "known": {"binder": [0.26, 0.01], "abs_m": [1.0, 0.05]},
            }
            for L, c in zip(extents, couplings, strict=True)
        ],
        "cells": cells,
        "fits": fitted(cells, 8),
        "ratios": ratios(cells, "hmc"),
        "comparisons": compared(cells, "hmc"),
        "derived": dict(DERIVED),
        "known": held_against(cells, [{"binder": [0.26, 0.01], "abs_m": [1.0, 0.05]}] * 3),
        "timing_warnings": ["8x8: the machine had other work"],
        "skipped": ["fast: no model at 12x12"],
        "failed": ["cluster at 8x8: <reason>"],
    }
    return {**made, "verdict": verdict(made)}


@pytest.fixture(scope="module")
def page(document):
    return study_page(document, draw_study(document))


def test_every_number_of_the_document_is_on_the_page(document, page):
    for row in document["cells"]:
        assert value_error(*row["tau_int"]["m"]) in page
        assert row["digest"] in page
        for pair in row["cost"]["processor_seconds"].values():
            assert seconds(*pair).replace(" ", "\u00a0") in page
        for pair in row["cost"]["gradient_equivalents"].values():
            assert value_error(*pair) in page
        assert "87.66(31)\u00a0%" in page
    for fit in document["fits"]:
        assert value_error(fit["z"], fit["error"]) in page
    for row in document["ratios"]:
        assert value_error(row["value"], row["error"]) in page
    assert "latticediff study card.toml --out toy" in page
    assert "the machine had other work" in page
    assert "cluster at 8x8: &lt;reason&gt;" in page
    assert "<toy>" not in page
    # what a point says under the pointer
    assert "<title>fast model at 32: 0.600(12)</title>" in page
    assert "<title>fast model: ρ(3) = 0.006738, window 12</title>" in page
    assert "<title>known at 8: 0.260(10)</title>" in page
    assert "<title>a flow, 2022, published, at 32: 0.904</title>" in page
    names = re.findall(r' id="([^"]+)"', page)
    assert len(set(names)) == len(names)
    assert page.count("<h3>") == len(draw_study(document)) == FIGURES


def test_training_ancestors_and_data_stand_apart_on_the_page(document):
    """Of cells that an earlier version has run the ancestors are not known, and are in the training."""
    learned = [row for row in document["ratios"] if row["setup_seconds"]]
    assert {row["setup_seconds"] for row in learned} == {207.0}
    text = study_markdown(document, draw_study(document))
    assert text.count("| 90 s | 110 s | 7 s |") == len(learned) == 3
    older = [{k: v for k, v in row.items() if k != "ancestor_seconds"} for row in document["ratios"]]
    assert study_markdown({**document, "ratios": older}, []).count("| 3.33 min | – | 7 s |") == 3


def test_every_figure_says_values_under_the_pointer(document, page):
    """Every sampler that a figure shows says something in it; of a line with a CSV, every point drawn says its own."""
    figures = dict(re.findall(r'<figure id="([^"]+)">(.*?)</figure>', page, re.DOTALL))
    records = {record.name: record for record in draw_study(document)}
    assert figures.keys() == records.keys() and len(figures) == FIGURES
    words = {name: re.findall("<title>(.*?)</title>", text) for name, text in figures.items()}
    for name, record in records.items():
        for sampler in document["samplers"].keys() & {row[0] for row in record.rows}:
            assert any(document["samplers"][sampler]["label"] in told for told in words[name]), (name, sampler)
    assert len(words["history"]) == 2 * 50 == len(records["history"].rows)
    assert len(words["film"]) == 3 and len(words["configurations"]) == 2
    # a bin for each density; each pilot in both panels, if it has a cost; the two panels of the propagator
    assert len(words["histogram"]) == len(records["histogram"].rows) and len(words["pilots"]) == 2
    assert len(words["propagator"]) == len(records["propagator"].rows)


def test_spots_lie_where_their_values_are_drawn(document, page):
    """A marker that is drawn in black and its spot have one place in the picture: the published value."""
    figure = re.search(r'<figure id="ess">(.*?)</figure>', page, re.DOTALL)[1]
    spot = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>a flow', figure)
    drawn = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="[^"]*stroke: #000000', figure)
    assert any(math.dist(map(float, place), map(float, spot.groups())) < 0.1 for place in drawn)


def test_markdown_says_the_same(document):
    text = study_markdown(document, draw_study(document))
    for row in document["cells"]:
        assert value_error(*row["tau_int"]["m"]) in text
        assert row["digest"] in text
    assert text.count("](figures/") == 3 * FIGURES
    assert "<toy>" not in text.replace("\\<toy\\>", "")
    assert all(sentence.split("|")[0][:30].replace("_", "\\_") in text for sentence in document["verdict"])


def test_published_values_and_equal_quality_are_beside_the_own(document):
    record = next(record for record in draw_study(document) if record.name == "ess")
    rows = {(row[0], row[1], row[2]): row[3] for row in record.rows}
    assert rows["a flow, 2022", "published", 32] == 0.904
    # the variance of log_weight is that of the smallest lattice for each site
    assert rows["fast", "equal quality per site", 16] == pytest.approx(0.97**4)
    assert rows["fast", "equal quality per site", 32] == pytest.approx(0.97**16)


def test_figures_have_their_numbers_and_the_same_bytes_every_time(document, tmp_path):
    written = write_study(document, tmp_path / "a")
    write_study(document, tmp_path / "b")
    names = sorted(path.name for path in written["figures"].iterdir())
    assert len(names) == FIGURES * 4
    for name in ("../study.html", *(f"{name}" for name in names)):
        assert (tmp_path / "a/figures" / name).read_bytes() == (tmp_path / "b/figures" / name).read_bytes(), name
    rows = list(csv.DictReader((tmp_path / "a/figures/cost.csv").open()))
    found = {(row["sampler"], float(row["L"])): float(row["value"]) for row in rows}
    for row in document["cells"]:
        assert found[row["sampler"], row["L"]] == row["cost"]["processor_seconds"]["abs_m"][0]


def test_acceptance_is_shown_against_the_knob(document):
    record = next(record for record in draw_study(document) if record.name == "acceptance")
    assert record.rows == [("fast", 0.25, 4, 0.7), ("fast", 0.125, 8, 0.9), ("fast", pytest.approx(1 / 6), 6, 0.84)]


def test_the_film_is_of_the_slowest_theory_that_has_one(document, tmp_path):
    record = next(record for record in draw_study(document) if record.name == "film")
    assert "16x16" in record.title  # at 32x32 none was made
    assert "A plane of 2×2 sites is shown" in record.caption
    assert "Grey sites are drawn at the end" in record.caption
    assert record.header == ("sampler", "sigma", "y", "x", "value")
    # sites that are not drawn yet are no rows
    assert record.rows[:3] == [("fast", 4.0, 0, 0, 4.0), ("fast", 4.0, 1, 1, -4.0), ("fast", 0.5, 0, 0, 4.0)]
    assert len(record.rows) == 2 + 2 + 4
    titles = [ax.get_title(loc="left") for ax in record.figure.axes]
    assert titles == ["fast model\nσ = 4", "σ = 0.5", "the field φ"]
    bare = {**document, "cells": [{k: v for k, v in row.items() if k != "film"} for row in document["cells"]]}
    assert "film" not in {record.name for record in draw_study(bare)}


def test_a_study_along_a_coupling_has_it_for_its_axis(document):
    assert horizontal(document) == ("L", [8.0, 16.0, 32.0])
    theories = [{**theory, "shape": [8, 8]} for theory in document["theories"]]
    along = {**document, "theories": theories, "fits": []}
    assert horizontal(along) == ("lam", [6.008, 4.98, 4.572])
    records = {record.name: record for record in draw_study(along)}
    assert records["tau_int"].header == ("sampler", "lam", "value", "error")


def test_a_document_that_is_none_or_was_changed_is_refused(tmp_path):
    path = tmp_path / "study.json"
    path.write_text("{}")
    with pytest.raises(FileError, match="is no document of a study"):
        rewrite_page(tmp_path)
    path.write_text(json.dumps({"study_version": 1, "sha256": "0"}))
    with pytest.raises(FileError, match="digest does not match; run the study again"):
        rewrite_page(tmp_path)


def in_chromium(path, tmp_path, *options):
    """What the page looks like to a browser after its scripts have run, and what it complained of."""
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--dump-dom", *options),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_page_in_a_browser(page, tmp_path):
    """In a frame of 390 pixels nothing sticks out, and a click on a column's head sorts by its numbers."""
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "frame.html").write_text(
        """<body><iframe id="f" src="page.html" style="width:390px;height:800px"></iframe><script>
        const frame = document.getElementById("f");
        frame.onload = () => {
          const inside = frame.contentDocument, root = inside.documentElement;
          const pictures = [...inside.querySelectorAll("figure img, figure svg")];
          const seen = pictures.filter(p => p.getBoundingClientRect().width > 200).length;
          const says = figure => {  // what lies under the pointer in the middle of something that has words
            const said = figure.querySelector("svg g title, svg circle title").parentNode;
            said.scrollIntoView({block: "center"});
            const box = said.getBoundingClientRect();
            const met = inside.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            return met !== null && met.closest("g:has(> title), circle, rect") !== null;
          };
          const spoken = [...inside.querySelectorAll("figure")].filter(says).length;
          const table = inside.querySelectorAll("table")[1];
          const column = () => [...table.tBodies[0].rows].map(row => row.cells[2].textContent).join("; ");
          table.tHead.rows[0].cells[2].click();
          const up = column();
          table.tHead.rows[0].cells[2].click();
          const told = [root.scrollWidth, inside.body.scrollWidth, seen, spoken, up, column()];
          document.body.innerHTML = "<p>" + told.join(" | ") + "</p>";
        };</script></body>"""
    )
    shown, complaints = in_chromium(tmp_path / "frame.html", tmp_path, "--allow-file-access-from-files")
    assert not complaints
    wide, body, seen, spoken, up, down = re.search("<p>(.*)</p>", shown)[1].replace("&nbsp;", " ").split(" | ")
    assert int(wide) <= 390
    assert int(body) <= 390
    assert int(seen) == FIGURES
    assert int(spoken) == FIGURES
    units = {"µs": 1e-6, "ms": 1e-3}
    numbers = [[float(re.match(r"[\d.]+", c)[0]) * units[c.split()[-1]] for c in col.split("; ")] for col in (up, down)]
    assert numbers[0] == sorted(numbers[0])
    assert numbers[1] == sorted(numbers[1], reverse=True)
    assert len(set(numbers[0])) > 3
