"""The OpenAPI document is valid, and requests drawn from it, right and wrong ones, never break the service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from streaming.api.app import create_app
from streaming.api.served import Models, Served
from streaming.config.sections import Api
from tests.support.api_server import serving
from tests.support.churn_models import Length, churn

TOKEN = "a-token-of-some-length"


class NoRows:
    """A store without a row."""

    def get(self, key: str) -> list[dict[str, object]]:
        return []


def test_requests_drawn_from_the_description_never_break_the_service(tmp_path: Path) -> None:
    models = Models.fixed(churn(), Served.of(Length(), name="length", version="1"))
    settings = Api(requests_per_second=None, token=TOKEN)  # type: ignore[arg-type]
    with serving(create_app(models, NoRows(), settings)) as client:
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{client.base_url}/openapi.json"),
            *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--phases", "examples,coverage,fuzzing", "--mode", "all"),
            *("--max-examples", "6", "--seed", "1", "--generation-database", "none", "--no-color", "--workers", "1", "--warnings", "off"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
        answered = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
    assert done.returncode == 0, done.stdout[-6000:]
    for route in ("predict", "explain_", "v2_infer"):  # right and wrong requests got as far as the model
        assert f'streaming_api_requests_total{{route="{route}",status="200"}}' in answered
        assert f'route="{route}",status="4' in answered
    assert 'status="500"' not in answered
