r"""What an ensemble is, for catalogues: as XML with the names of QCDml, and as Croissant JSON-LD.

QCDml 2.0, the markup of the International Lattice Data Grid, has no scalar fields: its schema demands a gluon action.
So the XML takes the names of ``markovChain`` documents where there are such (management, license, physics, algorithm),
and ``scalar`` in place of ``gluon``, under a namespace of its own: it is no valid QCDml, and says so. Croissant 1.0 is
the vocabulary of MLCommons on top of schema.org (Akhtar et al. 2403.19546).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ..action import CONVENTIONS, Phi4
from ..errors import FileError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .reader import Ensemble

__all__ = ["croissant", "qcdml"]

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  #: what XML cannot hold
NAMESPACE = "urn:latticediff:ensemble:1"
AXES = {1: "t", 2: "xt", 3: "xyt", 4: "xyzt"}  #: QCDml demands x and t

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}  #: as the specification prints it


def _formula(ensemble: Ensemble) -> str:
    action = ensemble.action
    found = CONVENTIONS[action.convention].formula if isinstance(action, Phi4) else getattr(action, "formula", None)
    return f"S = sum_x [ {found} ]" if isinstance(found, str) else ""


def _couplings(ensemble: Ensemble) -> dict[str, Any]:
    """Numbers and words of the description that name the theory."""
    told = dict(ensemble.description)
    inner = told.pop("couplings", {})
    told |= inner if isinstance(inner, dict) else {"couplings": inner}
    return {key: value for key, value in told.items() if key not in ("name", "ndim", "internal")}


def qcdml(ensemble: Ensemble, about: Mapping[str, str] | None = None) -> str:
    """The ensemble as XML with the names of a QCDml ``markovChain``.

    Parameters
    ----------
    ensemble : Ensemble
    about : dict of str to str, optional
        ``license`` (a URI), ``collaboration`` and ``project``; what is not given is left out.

    Returns
    -------
    str

    Raises
    ------
    FileError
        The ensemble cannot be read.
    """
    about = _known(about)
    root = ElementTree.Element(f"{{{NAMESPACE}}}markovChain")

    def put(parent: ElementTree.Element, name: str, text: object = None) -> ElementTree.Element:
        child = ElementTree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
        if text is not None:
            child.text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", _text(text))
        return child

    root.append(ElementTree.Comment(" names of QCDml 2.0, which has no scalar fields: no valid QCDml document "))
    put(root, "markovChainURI", f"urn:sha256:{ensemble.fingerprint()}")
    management = put(root, "management")
    for name, key in (("collaboration", "collaboration"), ("projectName", "project")):
        if key in about:
            put(management, name, about[key])
    put(management, "ensembleLabel", ensemble.path.name)
    event = put(put(management, "archiveHistory"), "archiveEvent")
    put(event, "revisionAction", "generate")
    put(event, "date", ensemble.provenance.created)
    if "license" in about:
        put(put(root, "license"), "licenseURI", about["license"])
    physics = put(root, "physics")
    size = put(physics, "size")
    for axis, extent in zip(AXES[len(ensemble.shape)], ensemble.shape, strict=True):
        put(size, axis, extent)
    scalar = put(put(physics, "action"), "scalar")
    put(scalar, "name", ensemble.description.get("name", "unknown"))
    if formula := _formula(ensemble):
        put(scalar, "glossary", formula)
    put(scalar, "boundary", "periodic")
    for name, value in _couplings(ensemble).items():
        coupling = put(scalar, "coupling")
        put(coupling, "name", name)
        put(coupling, "value", value)
    algorithm = put(root, "algorithm")
    put(algorithm, "name", ensemble.algorithm.get("name", "unknown"))
    parameters = put(algorithm, "parameters")
    for name, value in ensemble.algorithm.items():
        if name != "name":
            parameter = put(parameters, "parameter")
            put(parameter, "name", name)
            put(parameter, "value", value)
    more = put(root, "additionalInfo")
    for name, value in _counts(ensemble).items():
        put(more, name, value)
    ElementTree.indent(root)
    # given here and not registered, which would change what a host writes
    text = ElementTree.tostring(root, encoding="unicode", default_namespace=NAMESPACE)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def croissant(ensemble: Ensemble, about: Mapping[str, str] | None = None) -> str:
    """The ensemble as Croissant 1.0 JSON-LD: one file, its digest, what the numbers in it are.

    Croissant has no way into data sets of HDF5, so there is no record set; fields and their meaning are told as
    ``variableMeasured``.

    Parameters
    ----------
    ensemble : Ensemble
        A finished file.
    about : dict of str to str, optional
        As of `qcdml`.

    Returns
    -------
    str

    Raises
    ------
    FileError
        The ensemble cannot be read, or is not finished.
    """
    about = _known(about)
    path = ensemble.path
    if not ensemble.is_complete:
        raise FileError(f"{path} is a run that goes on; a catalogue wants a finished file")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    lattice = "x".join(map(str, ensemble.shape))
    told = ", ".join(f"{name} = {_text(value)}" for name, value in _couplings(ensemble).items())
    name = path.stem or "ensemble"
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": (
            f"{ensemble.n_cfg} configurations of a scalar lattice field theory ({ensemble.description.get('name')}:"
            f" {told}) on {lattice}, periodic, of {ensemble.n_chains} Markov chains. {_formula(ensemble)}".strip()
        ),
        "version": "1.0.0",
        "datePublished": ensemble.provenance.created,
        "creator": {"@type": "Organization", "name": about["collaboration"]} if "collaboration" in about else None,
        "license": about.get("license"),
        "keywords": ["lattice field theory", "scalar field", "Markov chain Monte Carlo"],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": path.name,
                "name": path.name,
                "description": "HDF5; data sets configurations/phi (n, *lattice), configurations/action (n,)",
                "contentSize": f"{path.stat().st_size} B",
                "contentUrl": path.name,
                "encodingFormat": "application/x-hdf5",
                "sha256": digest,
            }
        ],
        "variableMeasured": [
            {"@type": "PropertyValue", "name": key, "value": _text(value)}
            for key, value in {**_couplings(ensemble), **_counts(ensemble), "algorithm": ensemble.algorithm}.items()
        ],
    }
    return json.dumps({key: value for key, value in document.items() if value is not None}, indent=1) + "\n"


def _counts(ensemble: Ensemble) -> dict[str, Any]:
    return {
        "lattice": "x".join(map(str, ensemble.shape)),
        "n_configurations": ensemble.n_cfg,
        "n_chains": ensemble.n_chains,
        "updates_between_configurations": ensemble.thin,
        "precision": "float64",
        "content_sha256": ensemble.fingerprint(),
        "program": f"{ensemble.provenance.program} {ensemble.provenance.version}",
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _known(about: Mapping[str, str] | None) -> Mapping[str, str]:
    about = {key: value for key, value in (about or {}).items() if value is not None}
    if unknown := sorted(set(about) - {"license", "collaboration", "project"}):
        raise UserError(f"about has {', '.join(unknown)}; expected license, collaboration, project")
    return about
