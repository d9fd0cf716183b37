"""The database schema as an append-only set of migrations; ``user_version`` is the number applied.

Only a run that has migrations to apply imports sqlite-utils. That import pulls in pandas and numpy where they are
installed, for features that the schema does not use, so both are masked while it lasts.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from typing import Any

VERSION = 1
"""Number of migrations below; a test keeps the two equal."""

APPLICATION_ID = 0x44_50_4F_52

_M001 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, command TEXT NOT NULL, started_s INTEGER NOT NULL, finished_s INTEGER, exit_code INTEGER,
  version TEXT NOT NULL, config_sha256 TEXT) STRICT;
CREATE INDEX runs_by_command ON runs (command, started_s);
CREATE TABLE nodes (
  name TEXT PRIMARY KEY, protocol TEXT NOT NULL, host TEXT NOT NULL, first_seen_s INTEGER NOT NULL,
  source TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE host_samples (
  host TEXT NOT NULL, observed_s INTEGER NOT NULL, capacity_json TEXT NOT NULL, used_json TEXT NOT NULL,
  learned_s INTEGER NOT NULL, PRIMARY KEY (host, observed_s)) STRICT, WITHOUT ROWID;
CREATE TABLE earnings_samples (
  source TEXT NOT NULL, currency TEXT NOT NULL, kind TEXT NOT NULL, period TEXT NOT NULL,
  external_id TEXT NOT NULL, observed_s INTEGER NOT NULL, node TEXT NOT NULL REFERENCES nodes (name),
  amount TEXT NOT NULL, share TEXT NOT NULL,
  withheld TEXT NOT NULL, baseline TEXT, stepped TEXT, stepped_s INTEGER, estimated INTEGER NOT NULL,
  learned_s INTEGER NOT NULL, voided_s INTEGER,
  run_id INTEGER NOT NULL REFERENCES runs (id),
  PRIMARY KEY (source, currency, kind, external_id, period, observed_s)) STRICT, WITHOUT ROWID;
CREATE INDEX stepped_samples ON earnings_samples (node, observed_s) WHERE stepped IS NOT NULL;
CREATE TABLE usage_samples (
  node TEXT NOT NULL REFERENCES nodes (name), observed_s INTEGER NOT NULL,
  cpu_cores_allocated REAL, cpu_cores_used REAL, memory_bytes_allocated REAL, memory_bytes_used REAL,
  storage_bytes_allocated REAL, storage_bytes_used REAL, uplink_bps_allocated REAL, uplink_bps_used REAL,
  downlink_bps_allocated REAL, downlink_bps_used REAL, gpu_count_allocated REAL, gpu_count_used REAL,
  learned_s INTEGER NOT NULL, PRIMARY KEY (node, observed_s)) STRICT, WITHOUT ROWID;
CREATE TABLE health_samples (
  node TEXT NOT NULL REFERENCES nodes (name), observed_s INTEGER NOT NULL, status TEXT NOT NULL,
  reason TEXT NOT NULL, failure_kind TEXT, details_json TEXT NOT NULL, limits_json TEXT NOT NULL,
  learned_s INTEGER NOT NULL, run_id INTEGER NOT NULL REFERENCES runs (id),
  PRIMARY KEY (node, observed_s)) STRICT, WITHOUT ROWID;
CREATE TABLE standings (
  node TEXT NOT NULL REFERENCES nodes (name), currency TEXT NOT NULL, standing TEXT NOT NULL,
  observed_s INTEGER NOT NULL, amount TEXT NOT NULL, learned_s INTEGER NOT NULL,
  PRIMARY KEY (node, currency, standing, observed_s)) STRICT, WITHOUT ROWID;
CREATE TABLE prices (
  currency TEXT NOT NULL, observed_s INTEGER NOT NULL, usd_per_unit TEXT NOT NULL, source TEXT NOT NULL,
  learned_s INTEGER NOT NULL, PRIMARY KEY (currency, observed_s)) STRICT, WITHOUT ROWID;
CREATE TABLE price_jumps (
  currency TEXT NOT NULL, observed_s INTEGER NOT NULL, usd_per_unit TEXT NOT NULL, source TEXT NOT NULL,
  learned_s INTEGER NOT NULL, PRIMARY KEY (currency, observed_s)) STRICT, WITHOUT ROWID;
CREATE TABLE backoffs (
  subject TEXT PRIMARY KEY, since_s INTEGER NOT NULL, until_s INTEGER, failure_kind TEXT, message TEXT NOT NULL,
  fingerprint TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE power_samples (
  host TEXT NOT NULL, observed_s INTEGER NOT NULL, watts REAL NOT NULL, source TEXT NOT NULL,
  learned_s INTEGER NOT NULL, PRIMARY KEY (host, observed_s)) STRICT, WITHOUT ROWID;
CREATE TABLE power_hours (
  host TEXT NOT NULL, hour_s INTEGER NOT NULL, watts REAL NOT NULL, source TEXT NOT NULL, usd_per_kwh REAL NOT NULL,
  price_per_kwh REAL NOT NULL, currency TEXT NOT NULL, learned_s INTEGER NOT NULL,
  PRIMARY KEY (host, hour_s)) STRICT, WITHOUT ROWID;
CREATE TABLE tariff_prices (
  currency TEXT NOT NULL, start_s INTEGER NOT NULL, learned_s INTEGER NOT NULL, price_per_kwh REAL NOT NULL,
  source TEXT NOT NULL, PRIMARY KEY (currency, start_s, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE accruals (
  node TEXT NOT NULL REFERENCES nodes (name), hour_s INTEGER NOT NULL, currency TEXT NOT NULL,
  learned_s INTEGER NOT NULL, amount TEXT NOT NULL, quality TEXT NOT NULL,
  run_id INTEGER NOT NULL REFERENCES runs (id),
  PRIMARY KEY (node, hour_s, currency, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE hour_values (
  currency TEXT NOT NULL, hour_s INTEGER NOT NULL, price_usd TEXT NOT NULL, price_source TEXT NOT NULL,
  price_observed_s INTEGER NOT NULL, learned_s INTEGER NOT NULL,
  PRIMARY KEY (currency, hour_s)) STRICT, WITHOUT ROWID;
CREATE TABLE imported_intervals (
  node TEXT NOT NULL REFERENCES nodes (name), currency TEXT NOT NULL, start_s INTEGER NOT NULL,
  end_s INTEGER NOT NULL, amount TEXT NOT NULL, usd_per_unit TEXT, learned_s INTEGER NOT NULL,
  told TEXT NOT NULL, PRIMARY KEY (node, currency, start_s)) STRICT, WITHOUT ROWID;
CREATE TABLE payouts (
  node TEXT NOT NULL REFERENCES nodes (name), external_id TEXT NOT NULL, currency TEXT NOT NULL,
  learned_s INTEGER NOT NULL, received_s INTEGER, amount TEXT NOT NULL, transaction_ref TEXT, fee TEXT,
  period TEXT NOT NULL, PRIMARY KEY (node, external_id, currency, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE payout_values (
  node TEXT NOT NULL, external_id TEXT NOT NULL, currency TEXT NOT NULL, price_usd TEXT NOT NULL,
  price_source TEXT NOT NULL, price_observed_s INTEGER NOT NULL, learned_s INTEGER NOT NULL,
  PRIMARY KEY (node, external_id, currency)) STRICT, WITHOUT ROWID;
CREATE TABLE statements (
  node TEXT NOT NULL REFERENCES nodes (name), period TEXT NOT NULL, external_id TEXT NOT NULL,
  currency TEXT NOT NULL, learned_s INTEGER NOT NULL, earned TEXT NOT NULL, held TEXT NOT NULL,
  returned TEXT NOT NULL, payable TEXT NOT NULL, paid TEXT NOT NULL,
  PRIMARY KEY (node, period, external_id, currency, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE month_outlooks (
  node TEXT NOT NULL REFERENCES nodes (name), period TEXT NOT NULL, day INTEGER NOT NULL, currency TEXT NOT NULL,
  source TEXT NOT NULL, learned_s INTEGER NOT NULL, mean TEXT NOT NULL, lo80 TEXT, hi80 TEXT,
  PRIMARY KEY (node, period, day, currency, source, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE forecasts (
  node TEXT NOT NULL REFERENCES nodes (name), currency TEXT NOT NULL, origin_hour_s INTEGER NOT NULL,
  learned_s INTEGER NOT NULL, run_id INTEGER NOT NULL REFERENCES runs (id), forecast_json TEXT NOT NULL,
  PRIMARY KEY (node, currency, origin_hour_s, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE learned (
  node TEXT NOT NULL REFERENCES nodes (name), currency TEXT NOT NULL, end_s INTEGER NOT NULL,
  learned_s INTEGER NOT NULL, inputs TEXT NOT NULL, state_json TEXT NOT NULL, state_sha256 TEXT NOT NULL,
  PRIMARY KEY (node, currency)) STRICT, WITHOUT ROWID;
CREATE TABLE forecast_scores (
  node TEXT NOT NULL REFERENCES nodes (name), currency TEXT NOT NULL, unit TEXT NOT NULL, day_s INTEGER NOT NULL,
  learned_s INTEGER NOT NULL, through_s INTEGER NOT NULL, hours INTEGER NOT NULL, inside80 REAL NOT NULL,
  inside95 REAL NOT NULL, absolute_error REAL NOT NULL, naive_absolute_error REAL NOT NULL, earned REAL NOT NULL,
  multiplier REAL NOT NULL, PRIMARY KEY (node, currency, unit, day_s, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE anomalies (
  node TEXT NOT NULL REFERENCES nodes (name), cause TEXT NOT NULL, since_s INTEGER NOT NULL,
  learned_s INTEGER NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL, score REAL NOT NULL,
  evidence_json TEXT NOT NULL, until_s INTEGER, well_since_s INTEGER, settled INTEGER NOT NULL,
  PRIMARY KEY (node, cause, since_s, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE usual (
  node TEXT PRIMARY KEY REFERENCES nodes (name), past_json TEXT NOT NULL, usual_json TEXT NOT NULL)
  STRICT, WITHOUT ROWID;
CREATE TABLE plans (
  id TEXT PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), made_s INTEGER NOT NULL,
  expires_s INTEGER NOT NULL, status TEXT NOT NULL, decision TEXT NOT NULL, reason TEXT NOT NULL,
  inputs_sha256 TEXT NOT NULL, problem_json TEXT NOT NULL, result_json TEXT NOT NULL,
  places_json TEXT NOT NULL DEFAULT '{}') STRICT;
CREATE TABLE allocations (
  plan_id TEXT NOT NULL REFERENCES plans (id), node TEXT NOT NULL, resource TEXT NOT NULL, amount REAL NOT NULL,
  previous REAL, PRIMARY KEY (plan_id, node, resource)) STRICT, WITHOUT ROWID;
CREATE TABLE shadow_prices (
  plan_id TEXT NOT NULL REFERENCES plans (id), host TEXT NOT NULL, constraint_name TEXT NOT NULL,
  usd_per_unit_hour REAL NOT NULL, PRIMARY KEY (plan_id, host, constraint_name)) STRICT, WITHOUT ROWID;
CREATE TABLE actions (
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), plan_id TEXT REFERENCES plans (id),
  seq INTEGER NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL, action_json TEXT NOT NULL, state TEXT NOT NULL,
  started_s INTEGER NOT NULL, finished_s INTEGER, detail TEXT NOT NULL DEFAULT '') STRICT;
CREATE INDEX actions_by_node ON actions (node, kind, id);
CREATE TABLE restarts (
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), node TEXT NOT NULL, host TEXT NOT NULL,
  source TEXT NOT NULL, kind TEXT NOT NULL, why TEXT NOT NULL, mark TEXT NOT NULL, state TEXT NOT NULL,
  started_s INTEGER NOT NULL, finished_s INTEGER, detail TEXT NOT NULL DEFAULT '') STRICT;
CREATE INDEX restarts_by_time ON restarts (started_s);
CREATE TABLE breakers (
  node TEXT NOT NULL, learned_s INTEGER NOT NULL, circuit TEXT NOT NULL, tries INTEGER NOT NULL, until_s INTEGER,
  reason TEXT NOT NULL, PRIMARY KEY (node, learned_s)) STRICT, WITHOUT ROWID;
CREATE TABLE pauses (
  id INTEGER PRIMARY KEY, node TEXT, paused_s INTEGER NOT NULL, until_s INTEGER, resumed_s INTEGER) STRICT;
CREATE VIEW node_latest AS
  SELECT n.name AS node, n.protocol, n.host, h.status, h.reason, datetime(h.observed_s, 'unixepoch') AS observed_at
  FROM nodes n LEFT JOIN health_samples h ON h.node = n.name
    AND h.observed_s = (SELECT max(observed_s) FROM health_samples WHERE node = n.name);
CREATE VIEW earnings_daily_usd AS
  SELECT a.node, date(a.hour_s, 'unixepoch') AS day, a.currency, decimal_sum(a.amount) AS amount,
    coalesce(decimal_sum(CASE WHEN a.currency = 'USD' THEN a.amount ELSE decimal_mul(a.amount, v.price_usd) END),
      CASE WHEN a.currency <> 'POINTS' AND max(a.amount <> '0') = 0 THEN '0' END) AS usd
  FROM accruals a LEFT JOIN hour_values v ON v.currency = a.currency AND v.hour_s = a.hour_s
  GROUP BY a.node, day, a.currency;
CREATE VIEW plan_latest AS
  SELECT id AS plan_id, datetime(made_s, 'unixepoch') AS made_at, datetime(expires_s, 'unixepoch') AS expires_at,
    decision, status, reason FROM plans ORDER BY made_s DESC, rowid DESC LIMIT 1;
"""

FINGERPRINT = hashlib.sha256(_M001.encode()).hexdigest()
"""In ``meta`` of every database under ``schema``: before its release a step may change without a number of its own."""


def apply_pending(connection: sqlite3.Connection) -> None:
    """Bring a database that is open for writing to ``VERSION``, each step in a transaction of its own."""
    database_class, migrations_class = _sqlite_utils()
    migrations = migrations_class("depin_orcha")

    @migrations()
    def m001_first_schema(database: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        _statements(database.conn, _M001)
        database.conn.execute("INSERT INTO meta VALUES ('schema', ?)", (FINGERPRINT,))
        database.conn.execute("PRAGMA user_version = 1")

    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrations.apply(database_class(connection))


def _statements(connection: sqlite3.Connection, script: str) -> None:
    """Run a script inside the open transaction (``executescript`` would commit it)."""
    for statement in script.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def _sqlite_utils() -> tuple[Any, Any]:
    masked = [name for name in ("numpy", "pandas") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(masked))  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        from sqlite_utils import Database, Migrations
    finally:
        for name in masked:
            del sys.modules[name]
    return Database, Migrations
