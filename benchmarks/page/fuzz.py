"""Requests made from the schema of the page, right ones and wrong ones: none may end in a fault."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from inverse_design.app.server import create_app
from inverse_design.app.site import Site

_BASE = "http://127.0.0.1"


@dataclass
class Fuzz:
    """A visitor who sends what the schema allows, and what it does not.

    Attributes:
        answers: How often each method, address and status came.
        faults: What must not have come: a fault of the server, or an answer that the schema does not name.
    """

    site: Site
    token: str
    cases: int  # in all
    number: int = 0  # seed
    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def run(self) -> "Fuzz":
        """Send everything."""
        app = create_app(self.site)
        door = httpx.ASGITransport(app, raise_app_exceptions=False)
        with asyncio.Runner() as loop:
            client = httpx.AsyncClient(transport=door, base_url=_BASE)
            self._send = lambda *words, **options: loop.run(client.request(*words, **options))
            self._send("GET", "/enter", params={"token": self.token})
            self._csrf = self._send("GET", "/").text.partition('name="csrf" value="')[2].partition('"')[0]
            schema = schemathesis.openapi.from_dict(app.openapi())
            operations = [each.ok() for each in schema.get_all_operations()]
            operations = [each for each in operations if not each.path.endswith(("/leave", "/events"))]
            each = max(1, round(1.2 * self.cases / (2 * len(operations))))  # some have no wrong form
            for operation in operations:
                stated = operation.definition.raw
                self._try(operation, GenerationMode.POSITIVE, each)
                if "parameters" in stated or "requestBody" in stated:  # else nothing can be wrong
                    with suppress(Unsatisfiable):
                        self._try(operation, GenerationMode.NEGATIVE, each)
        return self

    def _try(self, operation: Any, mode: GenerationMode, count: int) -> None:  # noqa: ANN401 - of schemathesis
        declared = {int(code) for code in operation.definition.raw["responses"]}

        @seed(self.number)
        @settings(
            max_examples=count, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode), known=st.sampled_from(["none", "some", "all"]))
        def send(case: Case, known: str) -> None:
            if known != "none":
                self._aim(case, whole=known == "all")
            sent = requests.Request(**case.as_transport_kwargs(base_url=_BASE)).prepare()
            headers = {
                key: value for key, value in sent.headers.items() if key.casefold() in {"content-type", "accept"}
            }
            headers["x-csrf-token"] = self._csrf
            try:
                path = str(sent.url).removeprefix(_BASE)
                answer = self._send(str(sent.method), path, headers=headers, content=_body(sent))
            except httpx.InvalidURL:  # which no client can send
                return
            self.answers[case.method, operation.path, answer.status_code] += 1
            if answer.status_code >= 500 or answer.status_code not in declared | {404, 405}:
                self.faults.append(f"{case.method} {path[:200]} {_body(sent)[:400]!r}: {answer.status_code}")

        send()

    def _aim(self, case: Case, *, whole: bool) -> None:
        """Name the campaign that is there, and what is in it, so that requests reach what is behind the checks."""
        view = self.site.shelf.listed()[0]
        if "key" in case.path_parameters:
            case.path_parameters["key"] = view.campaign.key
        if "/rounds/" in case.operation.path:
            case.path_parameters["number"] = 1
        if whole and isinstance(case.body, dict):
            case.body |= {"revision": view.revision} if "/campaigns/" in case.operation.path else {}
            if isinstance(case.body.get("label"), str) and view.batches:
                case.body["label"] = view.batches[0].labels[0]


def _body(sent: requests.PreparedRequest) -> bytes:
    body = sent.body or b""
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


def table(answers: Counter[tuple[str, str, int]]) -> Iterator[str]:
    """Count the answers by status."""
    codes = Counter[int]()
    for (_, _, code), count in answers.items():
        codes[code] += count
    yield f"{sum(codes.values()):,} requests to {len({each[:2] for each in answers})} operations"
    yield ", ".join(f"{code}: {count:,}" for code, count in sorted(codes.items()))
