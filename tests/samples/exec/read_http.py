"""The command of an exec node: prints what a url answers, and tells every failure in the documented way."""

import http.client
import json
import shutil
import socket
import ssl
import sys
from urllib.parse import urlsplit


def fail(kind: str, message: str, hint: str = "see the log of the node") -> None:
    json.dump({"failure": {"kind": kind, "message": message, "hint": hint}}, sys.stdout)
    sys.exit(1)


def kind_of(answer: http.client.HTTPResponse) -> str:
    page = "html" in answer.headers.get("content-type", "") or "cf-mitigated" in answer.headers
    if answer.status in (403, 503) and page:
        return "blocked"
    if answer.status in (401, 403):
        return "auth"
    return "transient" if answer.status == 429 or answer.status >= 500 else "shape"


def main() -> None:
    try:
        parts = urlsplit(sys.argv[1])
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connect(parts.hostname or "", parts.port)
    except ValueError as error:
        return fail("config", f"no such url ({error})")
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
    except ssl.SSLCertVerificationError:
        return fail("config", "nobody trusts its certificate")
    except (socket.gaierror, OSError, http.client.HTTPException) as error:
        return fail("transient", f"no answer ({error})", "is it running?")
    if answer.status != 200:
        return fail(kind_of(answer), f"it answered {answer.status}")
    shutil.copyfileobj(answer, sys.stdout.buffer)
    return None


main()
