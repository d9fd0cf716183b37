"""The nodes of a benchmark: all of them behind one server, which answers as the samples do.

``bench_server.py FOLDER COUNT`` writes FOLDER/config.toml and says so in a line. For each line that it reads it writes
what it was asked meanwhile to FOLDER/requests.json, and prints how much that was.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from loopback import Answer, Loopback, Request, sample
from sample_cases import Case, baselines

_ONLY_ONE = "grass"
"""Of these a person has one account, which is read once."""
_A_PROGRAM = "exec"
"""Read without HTTP."""
_SENT = ("accept", "authorization", "content-type", "user-agent")
_OPERATOR = "0xabcdef0123456789abcdef0123456789abcdef01"


class Nodes:
    """``count`` nodes of all networks; each has a folder of the server to itself."""

    def __init__(self, count: int) -> None:
        cases = {case.protocol: case for case in baselines() if case.protocol != _A_PROGRAM}
        many = cycle(case for protocol, case in cases.items() if protocol != _ONLY_ONE)
        self.by_name: dict[str, Case] = {_ONLY_ONE: cases[_ONLY_ONE]}
        self.by_name |= {f"{case.protocol}_{number}": case for number, case in enumerate(islice(many, count - 1))}
        self._answers = cache(self._answer)
        self._respond = {case.protocol: sample(case.folder) for case in cases.values()}

    def __call__(self, request: Request) -> Answer:
        """The answer of the sample, which is made once: a node costs the server next to nothing."""
        name, _, path = request.path[1:].partition("/")
        if name == "prices":
            ids = request.query.get("ids", "").split(",")
            return Answer(200, json.dumps({token: {"usd": 2} for token in ids if token}).encode(), "application/json")
        body = request.body.replace(_operator(name).encode(), _OPERATOR.encode())
        query = tuple(request.query.items())
        shown = request.headers.get("authorization", "")
        return self._answers(self.by_name[name].protocol, request.method, f"/{path}", query, shown, body)

    def _answer(
        self, protocol: str, method: str, path: str, query: tuple[tuple[str, str], ...], shown: str, body: bytes
    ) -> Answer:
        return self._respond[protocol](Request(method, path, dict(query), {"authorization": shown}, body))

    def write_config(self, folder: Path, url: str) -> None:
        """A configuration of all of them, and their secrets."""
        text = f'[prices]\nurl = "{url}/prices"\nfallback_url = "{url}/prices"\n'
        for name, case in self.by_name.items():
            options = case.options(f"{url}/{name}")
            if "operator" in options:
                options["operator"] = _operator(name)
            for secret, value in case.secrets().items():
                (folder / f"{name}.{secret}").touch(0o600)
                (folder / f"{name}.{secret}").write_text(value)
                del options[secret]
                options[f"{secret}_file"] = f"{name}.{secret}"
            text += "".join([f"[nodes.{name}]\n", *(f"{key} = {json.dumps(one)}\n" for key, one in options.items())])
        (folder / "config.toml").write_text(text)


def _operator(name: str) -> str:
    """Operators with one address would share one income, which is read once."""
    return f"0x{name.encode().hex():0>40}"


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until nobody listens any more."""
    folder, nodes = Path(sys.argv[1]), Nodes(int(sys.argv[2]))
    with Loopback(nodes) as server:
        nodes.write_config(folder, server.url)
        _say("ready")
        for _ in sys.stdin:
            asked, server.requests = server.requests, []
            rows = [
                {"method": one.method, "url": server.url + one.path, "params": one.query, "content": one.body.decode()}
                | {"headers": {key: text for key, text in one.headers.items() if key in _SENT}}
                for one in asked
            ]
            (folder / "requests.json").write_text(json.dumps(rows))
            _say(len(rows))


if __name__ == "__main__":
    main()
