"""Who competes: modules that are dropped in, plugins, and what happens to those that fail."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simulated

from depin_orcha import forecast
from depin_orcha.errors import ConfigError
from depin_orcha.forecast import forecast_series, forecasters

if TYPE_CHECKING:
    from pathlib import Path


def one(y: np.ndarray) -> dict[str, Any]:
    """The forecast of a single hourly series."""
    return forecast_series([{"id": "a", "start": "2026-01-01", "y": y}])[0]


def plugin(folder: Path, module: str, source: str) -> None:
    """An installed distribution that offers ``module`` as a forecaster."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[depin_orcha.forecasters]\n{module} = {module}\n", encoding="utf-8")


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, body: str) -> None:
    """A plugin ``name`` whose ``predict`` has this body, for the length of a test."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    plugin(
        folder,
        name,
        f"import numpy as np\nname, min_points = '{name}', 24\ndef predict(y, horizon, season):\n    {body}\n",
    )


def test_a_plugin_that_knows_better_speaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    y = np.random.default_rng(1).lognormal(0, 1, 600)
    assert "seer" not in one(y[:500])["models"]
    install(monkeypatch, tmp_path, "seer", "return np.random.default_rng(1).lognormal(0, 1, 600)[len(y):][:horizon]")
    document = one(y[:500])
    assert document["models"] == {"seer": 1.0}
    assert document["model"] == "seer"
    assert document["mase"] == pytest.approx(0, abs=1e-6)
    assert document["median"] == pytest.approx(y[500:524], rel=0.05)


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('no')",
        "return np.full(horizon, np.nan)",
        "return np.zeros(horizon + 1)",
        "return 'soon'",
        "y[0] = 1e9; return np.zeros(horizon)",
        "return np.zeros(horizon) if len(y) < 200 else np.full(horizon, np.inf)",
    ],
)
def test_a_failing_plugin_drops_out_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str
) -> None:
    y = simulated.daylight(22, 300)
    before = one(y)
    install(monkeypatch, tmp_path, "shaky", body)
    after = one(y)
    assert "shaky failed and dropped out" in after.pop("reason")
    before.pop("reason")
    assert after == before


def test_a_wild_plugin_is_held_near_what_was_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = "return np.full(horizon, 1e12) if len(y) == 300 else np.resize(y[-season:], horizon)"
    install(monkeypatch, tmp_path, "wild", body)
    y = np.tile(np.arange(1.0, 25.0), 13)[:300]
    document = one(y)
    assert document["models"]["wild"] > 0
    assert max(document["hi"]["95"]) < 100


def test_the_name_of_a_built_in_model_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, "day_mean", "return np.zeros(horizon)")
    with pytest.raises(ConfigError, match="'day_mean' is offered by both the built-in pool and day_mean"):
        forecasters()


def test_every_model_that_speaks_has_a_reserved_name() -> None:
    spoken = set(one(simulated.bandwidth(3, 1000))["models"]) | set(one(simulated.storage(3, 300))["models"])
    assert len(spoken) > 8
    assert spoken <= forecast.BUILT_IN


def test_plugins_compete_and_broken_ones_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    plugin(tmp_path, "plugged", "name, min_points = 'plugged', 10\ndef predict(y, horizon, season): ...\n")
    plugin(tmp_path, "unplugged", "name = 'unplugged'\n")
    names = [model.name for model in forecasters()]
    assert names == ["plugged"]
    assert "forecaster=unplugged left out: it lacks name, min_points or predict" in caplog.text


def test_importing_the_package_loads_no_numpy() -> None:
    program = "import sys, depin_orcha.forecast; print(sorted({'numpy', 'scipy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_forecast_loads_numpy_alone() -> None:
    program = (
        "import sys; from depin_orcha.forecast import forecast_series\n"
        "forecast_series([{'id': 'a', 'start': '2026-01-01', 'y': [1.0] * 100}])\n"
        "print(sorted({'numpy', 'scipy', 'pandas', 'sklearn', 'statsmodels', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numpy']"
