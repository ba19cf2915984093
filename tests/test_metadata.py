"""What an ensemble is, for catalogues: QCDml names in XML, and Croissant, held against the package of its makers."""

import hashlib
import json
import os
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from latticediff.action import Phi4, SineGordon
from latticediff.cli.app import app
from latticediff.ensemble import Ensemble, croissant, qcdml, save_ensemble
from latticediff.errors import UserError
from latticediff.stages.transfer import export

LICENSE = "https://creativecommons.org/licenses/by/4.0/"
NS = {"q": "urn:latticediff:ensemble:1"}


@pytest.fixture
def file(tmp_path):
    phi = np.random.default_rng(1).standard_normal((6, 4, 8))
    save_ensemble(tmp_path / "ens.h5", phi, action=Phi4.H(0.2, 0.022), n_chains=2, algorithm={"name": "hmc", "n": 3})
    return tmp_path / "ens.h5"


def test_the_xml_has_the_names_of_qcdml_and_does_not_pass_for_it(file, tmp_path):
    export(file, tmp_path / "ens.xml", {"license": LICENSE, "collaboration": "A & B", "project": "<p>"})
    root = ElementTree.parse(tmp_path / "ens.xml").getroot()

    def text(path):
        return root.findtext("/".join(f"q:{part}" for part in path.split("/")), namespaces=NS)

    assert (
        root.tag == "{urn:latticediff:ensemble:1}markovChain" and "lqcd.org" not in (tmp_path / "ens.xml").read_text()
    )
    assert text("markovChainURI") == f"urn:sha256:{Ensemble(file).fingerprint()}"
    assert text("management/collaboration") == "A & B" and text("management/projectName") == "<p>"
    assert text("license/licenseURI") == LICENSE
    assert (text("physics/size/x"), text("physics/size/t"), text("physics/size/y")) == ("4", "8", None)
    couplings = {
        c.findtext("q:name", namespaces=NS): c.findtext("q:value", namespaces=NS)
        for c in root.iterfind("q:physics/q:action/q:scalar/q:coupling", NS)
    }
    assert couplings == {"convention": "H", "kappa": "0.2", "lam": "0.022"}
    assert "(1 - 2 lam) phi^2" in text("physics/action/scalar/glossary")
    assert text("algorithm/name") == "hmc" and text("algorithm/parameters/parameter/value") == "3"
    assert text("additionalInfo/n_configurations") == "6"


def test_another_theory_and_nothing_said_about_it(tmp_path):
    phi = np.random.default_rng(1).standard_normal((2, 4, 4, 4))
    save_ensemble(tmp_path / "sg.h5", phi, action=SineGordon(1.0, 0.5, 1.0, ndim=3))
    with Ensemble(tmp_path / "sg.h5") as ensemble:
        root = ElementTree.fromstring(qcdml(ensemble))
        assert root.findtext("q:physics/q:action/q:scalar/q:name", namespaces=NS) == "sine_gordon"
        assert root.findtext("q:physics/q:size/q:y", namespaces=NS) == "4" and root.find("q:license", NS) is None
        assert "license" not in json.loads(croissant(ensemble))


def test_the_xml_is_well_formed_and_leaves_the_host_alone(file, tmp_path, monkeypatch):
    """Whatever the file is called, and with the name spaces of a host that writes XML of its own."""
    monkeypatch.setattr(ElementTree, "_namespace_map", dict(ElementTree._namespace_map))
    ElementTree.register_namespace("", "urn:host")
    odd = file.rename(tmp_path / os.fsdecode(b"a<b&\xff\x01.h5"))
    with Ensemble(odd) as ensemble:
        root = ElementTree.fromstring(qcdml(ensemble, {"collaboration": "A\x00B"}).encode())
    assert root.findtext("q:management/q:collaboration", namespaces=NS) == "A\ufffdB"
    assert root.findtext("q:management/q:ensembleLabel", namespaces=NS) == "a<b&\ufffd\ufffd.h5"
    assert ElementTree.tostring(ElementTree.Element("{urn:host}mine")) == b'<mine xmlns="urn:host" />'


def test_croissant_names_the_file_and_its_digest(file, tmp_path):
    export(file, tmp_path / "ens.jsonld", {"license": LICENSE})
    told = json.loads((tmp_path / "ens.jsonld").read_text())
    (thing,) = told["distribution"]
    assert thing["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() and thing["contentUrl"] == "ens.h5"
    measured = {row["name"]: row["value"] for row in told["variableMeasured"]}
    assert measured["kappa"] == "0.2" and measured["content_sha256"] == Ensemble(file).fingerprint()


def test_croissant_is_valid(file, tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed ('latticediff[croissant]')")
    export(file, tmp_path / "ens.jsonld", {"license": LICENSE})
    metadata = mlcroissant.Dataset(jsonld=str(tmp_path / "ens.jsonld")).metadata
    assert metadata.name == "ens" and not metadata.issues.errors
    assert [warning for warning in metadata.issues.warnings if "citeAs" not in warning] == []  # no paper to cite
    broken = json.loads((tmp_path / "ens.jsonld").read_text())
    del broken["distribution"][0]["sha256"]
    (tmp_path / "broken.jsonld").write_text(json.dumps(broken))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=str(tmp_path / "broken.jsonld"))


def test_what_is_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"license is of \.xml and \.jsonld"):
        export(file, tmp_path / "ens.npy", {"license": LICENSE})
    with pytest.raises(UserError, match="about has author; expected license, collaboration, project"):
        export(file, tmp_path / "ens.xml", {"author": "me"})
    assert not list(tmp_path.glob("ens.[nx]*"))


def test_the_command(file, tmp_path):
    arguments = ["export", str(file), "--out", str(tmp_path / "e.jsonld"), "--license", LICENSE]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads((tmp_path / "e.jsonld").read_text())["license"] == LICENSE
