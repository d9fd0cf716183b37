"""A real yagna daemon, holding the documents of the recorded samples moved to the present.

The daemon is the one that Golem providers run; only its documents are put into its databases by hand, because no
requestor can reach a namespace without a network.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
from real.namespace import LoopbackNamespace, unavailable

VERSION = "0.17.6"
SAMPLES = Path(__file__).parents[1] / "samples" / "golem" / VERSION
SAMPLE_IDENTITY = "0xdd0cffc6de30d4f7af2abed5c63f8d28e9fedddf"
SAMPLE_END = datetime(2026, 11, 22, 19, 16, tzinfo=UTC)
"""Just after the last document of the samples."""
REJECTION = '{"rejectionReason": "BAD_SERVICE", "totalAmountAccepted": "0", "message": null}'
URL = "http://127.0.0.1:7465"


def yagna_binary(cache: Path) -> Path:
    """The daemon of the PyPI package golem-node, installed below ``cache`` when it is not there yet."""
    home = cache / f"golem-node-{VERSION}"
    binary = home / "bin" / "yagna"
    if not binary.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        install = [home / "bin" / "pip", "install", "-qq", "--no-deps", f"golem-node=={VERSION}"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            unavailable(f"golem-node {VERSION} cannot be installed: {done.stderr.strip()[-300:]}")
    return binary


class Yagna:
    """A running daemon with a fresh identity, an application key and the sample documents."""

    def __init__(self, binary: Path, folder: Path, space: LoopbackNamespace) -> None:
        self._binary = binary
        self._space = space
        self._data = folder / "data"
        self._log = folder / "yagna.log"
        self._data.mkdir(parents=True)
        nowhere = "http://127.0.0.1:18545"
        self._env = {
            "HOME": str(folder),
            "PATH": "/usr/bin:/bin",
            "YAGNA_DATADIR": str(self._data),
            "GSB_URL": "tcp://127.0.0.1:17464",
            "YAGNA_API_URL": URL,
            "YA_NET_RELAY_HOST": "127.0.0.1:17477",
            "YA_NET_BIND_URL": "udp://127.0.0.1:11500",
            **dict.fromkeys(
                ("MAINNET_GETH_ADDR", "POLYGON_GETH_ADDR", "HOLESKY_GETH_ADDR", "HOODI_GETH_ADDR"), nowhere
            ),
        }

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._daemon = self._space.popen([self._binary, "service", "run", "--disable-metrics-push"], self._env, log)
        try:
            self._wait_until_ready()
            made = self._space.run([self._binary, "app-key", "create", "depin-orcha"], self._env)
            self.app_key = made.stdout.strip()
            self.identity = self.get("/me")["identity"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the daemon, politely first; nothing when it has ended."""
        self._daemon.terminate()
        try:
            self._daemon.wait(20)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()

    def get(self, path: str) -> Any:
        """The JSON answer of the daemon."""
        return self._request("GET", path).raise_for_status().json()

    def post_offer(self) -> str:
        """Publish the offer of the samples, as ya-provider would; its id."""
        offer = self.samples("offers.json")[0]
        body = {"properties": offer["properties"], "constraints": offer["constraints"]}
        return self._request("POST", "/market-api/v1/offers", body).raise_for_status().json()

    def samples(self, name: str) -> Any:
        """A sample file as this daemon, with its own identity, would have answered it just now."""
        text = (SAMPLES / name).read_text().replace(SAMPLE_IDENTITY, self.identity)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", lambda m: self._moved(m[0]), text)
        return json.loads(re.sub(r"(?<=expiration)(\D+)(\d{13})", self._moved_ms, text))

    def fill(self) -> None:
        """Put the documents of the samples into the databases of the daemon, the newest of them a minute old."""
        self._shift = timedelta(seconds=int(time.time() - 60 - SAMPLE_END.timestamp()))
        self._fill_payment()
        self._fill_activity()
        self._fill_market()

    def add_debit_note(self, activity: str, total: str) -> None:
        """What the provider agent does every two minutes of work: one more note over the whole amount so far."""
        with closing(self._database("payment.db")) as db, db:
            (nonce,) = db.execute("SELECT max(debit_nonce) + 1 FROM pay_debit_note").fetchone()
            row = {
                "id": str(uuid4()),
                "owner_id": self.identity,
                "role": "P",
                "activity_id": activity,
                "status": "RECEIVED",
                "timestamp": _datetime(_now()),
                "total_amount_due": total,
                "debit_nonce": nonce,
            }
            _insert(db, "pay_debit_note", row)
            db.execute("UPDATE pay_activity SET total_amount_due = ? WHERE id = ?", (total, activity))

    def add_invoice(self, activity: str, amount: str) -> None:
        """What the provider agent does when the work has ended."""
        with closing(self._database("payment.db")) as db, db:
            (agreement,) = db.execute("SELECT agreement_id FROM pay_activity WHERE id = ?", (activity,)).fetchone()
            row = {
                "id": str(uuid4()),
                "owner_id": self.identity,
                "role": "P",
                "agreement_id": agreement,
                "status": "RECEIVED",
                "timestamp": _datetime(_now()),
                "amount": amount,
                "payment_due_date": _datetime(_now()),
            }
            _insert(db, "pay_invoice", row)
            link = {"invoice_id": row["id"], "activity_id": activity, "owner_id": self.identity}
            _insert(db, "pay_invoice_x_activity", link)
            db.execute("UPDATE pay_agreement SET total_amount_due = ? WHERE id = ?", (amount, agreement))

    def reject_invoice(self, activity: str) -> None:
        """What the requestor does who will not pay."""
        with closing(self._database("payment.db")) as db, db:
            query = "SELECT invoice_id FROM pay_invoice_x_activity WHERE activity_id = ?"
            (invoice,) = db.execute(query, (activity,)).fetchone()
            db.execute("UPDATE pay_invoice SET status = 'REJECTED' WHERE id = ?", (invoice,))
            event = {"invoice_id": invoice, "owner_id": self.identity, "event_type": "REJECTED"}
            _insert(db, "pay_invoice_event", event | {"timestamp": _datetime(_now()), "details": REJECTION})

    def _moved(self, text: str) -> str:
        return (datetime.fromisoformat(text) + self._shift).isoformat()

    def _moved_ms(self, match: re.Match[str]) -> str:
        return match[1] + str(int(match[2]) + int(self._shift.total_seconds()) * 1000)

    def _request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.app_key}"}
        return self._space.call(
            httpx.request, method, URL + path, headers=headers, json=body, timeout=20, trust_env=False
        )

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self._daemon.poll() is None:
            try:
                self._space.call(httpx.get, URL + "/version/get", timeout=2, trust_env=False).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.2)
            else:
                return
        unavailable(f"yagna {VERSION} does not start here: {self._log.read_text()[-500:]}")

    def _fill_payment(self) -> None:
        mine: dict[str, Any] = {"owner_id": self.identity, "role": "P"}
        with closing(self._database("payment.db")) as db, db:
            for row in self.samples("pay_agreements.json"):
                _insert(db, "pay_agreement", _columns(row))
            for row in self.samples("pay_activities.json"):
                _insert(db, "pay_activity", _columns(row))
            for nonce, note in enumerate(self.samples("debit_notes.json")):
                row = {
                    "id": note["debitNoteId"],
                    "previous_debit_note_id": note.get("previousDebitNoteId"),
                    "activity_id": note["activityId"],
                    "status": note["status"],
                    "timestamp": _datetime(note["timestamp"]),
                    "total_amount_due": note["totalAmountDue"],
                    "usage_counter_vector": json.dumps(note["usageCounterVector"]).encode(),
                    "payment_due_date": _datetime(note.get("paymentDueDate")),
                    "debit_nonce": nonce,
                }
                _insert(db, "pay_debit_note", mine | row)
            for invoice in self.samples("invoices.json"):
                row = {
                    "id": invoice["invoiceId"],
                    "agreement_id": invoice["agreementId"],
                    "status": invoice["status"],
                    "timestamp": _datetime(invoice["timestamp"]),
                    "amount": invoice["amount"],
                    "payment_due_date": _datetime(invoice["paymentDueDate"]),
                }
                _insert(db, "pay_invoice", mine | row)
                for activity in invoice["activityIds"]:
                    link = {"invoice_id": invoice["invoiceId"], "activity_id": activity, "owner_id": self.identity}
                    _insert(db, "pay_invoice_x_activity", link)
            self._fill_events(db, "invoice", "Invoice")
            self._fill_events(db, "debit_note", "DebitNote")
            self._fill_payments(db)

    def _fill_events(self, db: sqlite3.Connection, kind: str, prefix: str) -> None:
        key = prefix[0].lower() + prefix[1:] + "Id"
        for event in self.samples(f"{kind}_events.json"):
            row = {
                f"{kind}_id": event[key],
                "owner_id": self.identity,
                "event_type": event["eventType"].removeprefix(prefix).removesuffix("Event").upper(),
                "timestamp": _datetime(event["eventDate"]),
            }
            _insert(db, f"pay_{kind}_event", row)

    def _fill_payments(self, db: sqlite3.Connection) -> None:
        for payment in self.samples("payments.json"):
            row = {
                "id": payment["paymentId"],
                "owner_id": self.identity,
                "peer_id": payment["payerId"],
                "payee_addr": payment["payeeAddr"],
                "payer_addr": payment["payerAddr"],
                "payment_platform": payment["paymentPlatform"],
                "role": "P",
                "amount": payment["amount"],
                "timestamp": _datetime(payment["timestamp"]),
                "details": base64.b64decode(payment["details"]),
                "signature": bytes(payment["signature"]),
                "signed_bytes": bytes(payment["signedBytes"]),
            }
            _insert(db, "pay_payment", row)
            for part in payment["agreementPayments"]:
                document = {
                    "payment_id": payment["paymentId"],
                    "owner_id": self.identity,
                    "peer_id": payment["payerId"],
                    "agreement_id": part["agreementId"],
                    "amount": part["amount"],
                }
                _insert(db, "pay_payment_document", document)

    def _fill_activity(self) -> None:
        running = self.samples("activity_ids.json")
        used = json.dumps(self.samples("activity_usage.json")["currentUsage"])
        with closing(self._database("activity.db")) as db, db:
            for number, activity in enumerate(self.samples("pay_activities.json"), start=1):
                state = "Ready" if activity["id"] in running else "Terminated"
                changed = {"id": number, "updated_date": _datetime(activity["updatedTs"])}
                _insert(db, "activity_state", changed | {"name": json.dumps([state, None])})
                _insert(db, "activity_usage", changed | {"vector_json": used})
                row = {"natural_id": activity["id"], "agreement_id": activity["agreementId"]}
                _insert(db, "activity", row | {"id": number, "state_id": number, "usage_id": number})

    def _fill_market(self) -> None:
        detail = self.samples("agreement_detail.json")
        offer, demand = detail["offer"], detail["demand"]
        approved = [agreement["id"] for agreement in self.samples("agreements_approved.json")]
        with closing(self._database("market.db")) as db, db:
            for agreement in self.samples("agreements_all.json"):
                row = {
                    "id": f"P-{agreement['id']}",
                    "demand_properties": json.dumps(demand["properties"]),
                    "demand_constraints": demand["constraints"],
                    "offer_properties": json.dumps(offer["properties"]),
                    "offer_constraints": offer["constraints"],
                    "offer_id": offer["offerId"],
                    "demand_id": demand["demandId"],
                    "offer_proposal_id": f"P-{agreement['id']}",
                    "demand_proposal_id": f"P-{agreement['id']}",
                    "provider_id": self.identity,
                    "requestor_id": demand["requestorId"],
                    "session_id": detail["appSessionId"],
                    "creation_ts": _datetime(agreement["timestamp"]),
                    "valid_to": _datetime(detail["validTo"]),
                    "state": "Approved" if agreement["id"] in approved else "Terminated",
                    "approved_ts": _datetime(agreement["approvedDate"]),
                    **dict.fromkeys(("proposed_signature", "approved_signature", "committed_signature"), "NoSignature"),
                }
                _insert(db, "market_agreement", row)

    def _database(self, name: str) -> sqlite3.Connection:
        return sqlite3.connect(self._data / name, timeout=20)


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """The row of ``pay_agreement`` or ``pay_activity`` that the daemon answers as ``row``."""
    named = {re.sub(r"(?<!^)[A-Z]", lambda m: "_" + m[0].lower(), key): value for key, value in row.items()}
    return {key: _datetime(value) if key.endswith("_ts") else value for key, value in named.items()}


def _datetime(text: str | None) -> str | None:
    """RFC 3339 as the daemon's databases write it."""
    return text and text.rstrip("Z").replace("T", " ")


def _insert(db: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ",".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({','.join(row)}) VALUES ({marks})", tuple(row.values()))
