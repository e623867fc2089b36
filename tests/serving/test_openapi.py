"""Requests that are made from our own description: no answer is a server error, and each is as described."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from served_model import RunningService, TwentyMsModel, serving

schemathesis = pytest.importorskip("schemathesis")

OPERATIONS = [
    ("POST", "/instance-segmentation"),
    ("POST", "/v2/models/{name}/infer"),
    ("GET", "/v2/models/{name}"),
    ("GET", "/v2/models/{name}/versions/{version}/ready"),
    ("GET", "/info"),
    ("GET", "/health"),
]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningService]:
    with serving(TwentyMsModel(0.0)) as running:
        yield running


def send_cases(running: RunningService, method: str, path: str, cases: int) -> Counter[int]:
    """The statuses of the answers to random requests."""
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    statuses: Counter[int] = Counter()

    @given(case=schema[path][method].as_strategy())
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def send(case: schemathesis.Case) -> None:
        for name, value in (("name", "toy"), ("version", "1")):  # random ones are only not found
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = value
        response = case.call(headers={"X-Request-Id": "fuzz"})
        statuses[response.status_code] += 1
        assert response.status_code < 500, response.text
        case.validate_response(response, checks=[schemathesis.checks.not_a_server_error])

    send()
    return statuses


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_random_requests_are_no_server_error(running: RunningService, method: str, path: str) -> None:
    statuses = send_cases(running, method, path, 60)
    assert sum(statuses.values()) > 0


@pytest.mark.slow
def test_five_thousand_random_requests(running: RunningService) -> None:
    total: Counter[int] = Counter()
    for method, path in OPERATIONS[:3]:
        total += send_cases(running, method, path, 2000)
    print(dict(total))
    assert sum(total.values()) >= 5000
