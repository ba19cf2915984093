"""Packages of plug-ins for tests, real ones as pip would install them: a module and a ``.dist-info`` folder."""

import sys

import pytest

from latticediff import registry


def installer(default):
    """A fixture that puts packages on the path, `default` being the name of one that is given none."""

    @pytest.fixture
    def install(tmp_path, monkeypatch):
        """Put a package on the path: its source and its entry points, ``{group: {name: object}}``."""

        def put(source, points, package=default):
            site = tmp_path / package
            site.mkdir()
            (site / f"{package}.py").write_text(source)
            info = site / f"{package}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
            lines = []
            for group, entries in points.items():
                lines += [f"[latticediff.{group}]", *(f"{name} = {package}:{thing}" for name, thing in entries.items())]
            (info / "entry_points.txt").write_text("\n".join(lines))
            monkeypatch.syspath_prepend(site)
            registry._entry_points.cache_clear()

        yield put
        monkeypatch.undo()
        registry._entry_points.cache_clear()
        for name in [name for name in sys.modules if name.startswith(default)]:
            del sys.modules[name]

    return install
