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


def drop_in(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, source: str) -> None:
    """A module ``name`` of the package, for the length of a test."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(forecast, "__path__", [*forecast.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"{forecast.__name__}.{name}", raising=False)


def test_a_module_that_is_dropped_in_competes_and_can_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rising = 1.0 + np.arange(300) % 7 + np.arange(300) / 10
    assert one(rising)["model"] != "oracle"
    drop_in(
        monkeypatch,
        tmp_path,
        "oracle",
        "import numpy as np\n"
        "name, min_points = 'oracle', 24\n"
        "def predict(y, horizon, season):\n"
        "    hours = len(y) + np.arange(horizon)\n"
        "    return 1.0 + hours % 7 + hours / 10\n",
    )
    document = one(rising)
    assert document["model"] == "oracle"
    assert document["mase"] == pytest.approx(0)
    assert document["median"][0] == pytest.approx(1 + 300 % 7 + 30)


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
def test_a_failing_model_drops_out_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str
) -> None:
    y = simulated.daylight(22, 300)
    before = one(y)
    source = f"import numpy as np\nname, min_points = 'shaky', 24\ndef predict(y, horizon, season):\n    {body}\n"
    drop_in(monkeypatch, tmp_path, "shaky", source)
    after = one(y)
    assert "shaky failed and dropped out" in after.pop("reason")
    before.pop("reason")
    assert after == before


def test_a_wild_model_is_held_near_what_was_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = (
        "import numpy as np\nname, min_points = 'wild', 24\n"
        "def predict(y, horizon, season):\n"
        "    return np.full(horizon, 1e12) if len(y) == 300 else np.resize(y[-season:], horizon)\n"
    )
    drop_in(monkeypatch, tmp_path, "wild", source)
    y = np.tile(np.arange(1.0, 25.0), 13)[:300]
    assert max(one(y)["hi"]["95"]) < 100


def test_a_module_that_cannot_be_imported_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = [model.name for model in forecasters()]
    drop_in(monkeypatch, tmp_path, "broken", "import a_library_that_nobody_has\n")
    assert [model.name for model in forecasters()] == known == ["seasonal_naive", "profile", "zero"]
    assert "forecaster=depin_orcha.forecast.broken left out" in caplog.text


def test_two_models_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drop_in(monkeypatch, tmp_path, "second", "name, min_points = 'profile', 1\ndef predict(y, horizon, season): ...\n")
    with pytest.raises(ConfigError, match="'profile' is offered by both"):
        forecasters()


def plugin(folder: Path, module: str, source: str) -> None:
    """An installed distribution that offers ``module`` as a forecaster."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[depin_orcha.forecasters]\n{module} = {module}\n", encoding="utf-8")


def test_plugins_compete_and_broken_ones_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    plugin(tmp_path, "plugged", "name, min_points = 'plugged', 10\ndef predict(y, horizon, season): ...\n")
    plugin(tmp_path, "unplugged", "name = 'unplugged'\n")
    names = [model.name for model in forecasters()]
    assert names[0] == "seasonal_naive"
    assert "plugged" in names
    assert "unplugged" not in names
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
