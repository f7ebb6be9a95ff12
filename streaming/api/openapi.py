"""What the OpenAPI document says about the routes: bodies are read by hand, so their schemas are given by hand."""

from __future__ import annotations

from typing import Any, Final

from streaming.api.served import Models
from streaming.scorers.base import ColumnKind

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_NULLABLE_NUMBER: Final[Schema] = {"type": ["number", "null"]}
_SHARES: Final[Schema] = {"type": ["array", "null"], "items": _NUMBER}
_VALUES: Final[dict[ColumnKind, Schema]] = {
    "number": _NULLABLE_NUMBER,
    "text": {"type": ["string", "null"]},
    "vector": {"type": ["array", "null"], "items": _NUMBER},
}
_WORDS: Final = {
    401: "The token is missing or wrong.",
    403: "The token's roles do not reach so far, or it was asked under a foreign host name or by a foreign page.",
    404: "There is no such thing.",
    408: "The body did not come in time.",
    409: "The new version is refused; the old one stays in force.",
    413: "The body is too long.",
    431: "The head is too long.",
    422: "Something in the body is wrong; named by instance and field.",
    429: "Too many requests from this address; see Retry-After.",
    501: "This store cannot be asked here.",
    503: "The store does not answer.",
    400: "The tensors do not fit.",
}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


_ERROR: Final = _object(
    ["error"],
    error=_TEXT,
    errors={
        "type": "array",
        "items": _object(["instance", "error"], instance={"type": "integer"}, field={"type": ["string", "null"]}, error=_TEXT),
    },
)
_ANSWER: Final = {
    "type": "object",
    "required": ["model", "model_version"],
    "properties": {"prediction": _NUMBER, "probability": _SHARES, "model": _TEXT, "model_version": _TEXT, "error": _TEXT},
}
_EXPLANATION: Final = {
    "type": "object",
    "required": ["model", "model_version"],
    "properties": {
        **_ANSWER["properties"],  # type: ignore[dict-item]
        "method": {"enum": ["linear", "occlusion"]},
        "unit": {"enum": ["log-odds", "probability", "prediction"]},
        "class": {"type": ["integer", "null"]},
        "output": _NUMBER,
        "contributions": {
            "type": "array",
            "items": _object(["field", "contribution", "effect"], field=_TEXT, contribution=_NULLABLE_NUMBER, effect=_NULLABLE_NUMBER),
        },
    },
}
_INPUT: Final = _object(
    ["name", "kind", "categories"], name=_TEXT, kind={"enum": ["number", "text", "vector"]}, categories={"type": "array", "items": _TEXT}
)
_CARD: Final = _object(
    ["name", "version", "inputs"],
    name=_TEXT,
    version=_TEXT,
    sha256={"type": ["string", "null"]},
    loaded_at={"type": "string", "format": "date-time"},
    outcome=_TEXT,
    entity=_TEXT,
    inputs={"type": "array", "items": _INPUT},
    example={"type": "object"},
)
_DATATYPE: Final = {"enum": ["BYTES", "BOOL", "INT32", "INT64", "FP32", "FP64"]}
_TENSOR: Final = _object(
    ["name", "shape", "datatype", "data"],
    name=_TEXT,
    shape={"type": "array", "items": {"type": "integer", "minimum": 0}},
    datatype=_DATATYPE,
    data={"type": "array"},
)
_META: Final = _object(["name", "datatype", "shape"], name=_TEXT, datatype=_DATATYPE, shape={"type": "array", "items": {"type": "integer"}})


def _route(answer: Schema, *errors: int, tag: str | None = None) -> dict[str, Any]:
    """The keyword arguments of a route: the schema of its answer, and of the errors it may give."""
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "The answer.", "content": {"application/json": {"schema": answer}}}}
    for status in (401, 403, 413, 429, *errors):
        responses[status] = {"description": _WORDS[status], "content": {"application/json": {"schema": _ERROR}}}
    # No response model: the answers are made by hand, and FastAPI must not walk through them again.
    return {"responses": responses, "response_model": None} | ({"tags": [tag]} if tag else {})


def _with_body(route: dict[str, Any], schema: Schema, example: object) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {**route, "openapi_extra": {"requestBody": {"required": True, "content": content}}}


def _row(models: Models) -> tuple[Schema, dict[str, object]]:
    """The schema of a row of the first model, and an example of one. Only a hint: other models read other fields."""
    served = models.all()[0]
    fields: Schema = {name: _VALUES[kind] for name, kind in served.inputs.items()}
    start: dict[ColumnKind, object] = {"number": 0.0, "text": None, "vector": [0.0]}
    example = {
        name: served.example.get(name, next(iter(served.categories.get(name, ())), start[kind])) for name, kind in served.inputs.items()
    }
    row: Schema = {"type": "object", "properties": fields}
    return row | ({"additionalProperties": False} if len(models.all()) == 1 else {}), example


def _instances(models: Models) -> tuple[Schema, object]:
    row, example = _row(models)
    many = {"type": "object", "required": ["instances"], "properties": {"instances": {"type": "array", "items": row}}}
    one = {"type": "object", "required": ["instance"], "properties": {"instance": row}}
    return {"oneOf": [{**many, "additionalProperties": False}, {**one, "additionalProperties": False}]}, {"instances": [example]}


def predict(models: Models) -> dict[str, Any]:
    """POST :predict."""
    answer = _object(["predictions"], predictions={"type": "array", "items": _ANSWER})
    return _with_body(_route(answer, 404, 408, 422, tag="Models"), *_instances(models))


def explain(models: Models) -> dict[str, Any]:
    """POST :explain."""
    answer = _object(["explanations"], explanations={"type": "array", "items": _EXPLANATION})
    return _with_body(_route(answer, 404, 408, 422, tag="Models"), *_instances(models))


def infer(models: Models) -> dict[str, Any]:
    """POST infer."""
    served, (_, example) = models.all()[0], _row(models)
    takes: dict[ColumnKind, str] = {"number": "FP64", "text": "BYTES", "vector": "FP64"}
    tensors = []
    for name, kind in served.inputs.items():
        value = example[name]
        shape, data = ([1, len(value)], value) if kind == "vector" and isinstance(value, list) else ([1], [value])
        tensors.append({"name": name, "shape": shape, "datatype": takes[kind], "data": data})
    names = {"type": "array", "items": _object(["name"], name=_TEXT)}
    request = _object(["inputs"], id=_TEXT, inputs={"type": "array", "items": _TENSOR}, outputs=names)
    answer = _object(
        ["model_name", "outputs"], model_name=_TEXT, model_version=_TEXT, id=_TEXT, outputs={"type": "array", "items": _TENSOR}
    )
    return _with_body(_route(answer, 400, 404, 408, 422), request, {"inputs": tensors})


def with_names(document: Schema, models: Models) -> Schema:
    """The document, in which every parameter `name` is one of the models that are served."""
    names = [served.name for served in models.all()]
    for methods in document["paths"].values():
        for route in methods.values():
            for parameter in route.get("parameters", ()):
                if parameter["name"] == "name":
                    parameter["schema"] = {"type": "string", "enum": names}
    return document


RELOAD: Final = _route(
    _object(["model", "model_version", "changed"], model=_TEXT, model_version=_TEXT, changed={"type": "boolean"}), 404, 409, tag="Models"
)
MODELS: Final = _route(_object(["models"], models={"type": "array", "items": _CARD}), tag="Models")
MODEL: Final = _route(_CARD, 404, tag="Models")
PREDICTIONS: Final = _route(
    _object(["key", "predictions"], key=_TEXT, predictions={"type": "array", "items": {"type": "object"}}, event={"type": "object"}),
    404,
    501,
    503,
    tag="Predictions",
)
JOB_HEALTH: Final = _route(_object(["job", "windows"], job={"type": "object"}, windows={"type": "object"}), tag="Health")
HEALTH: Final = _route({"type": "object"}, tag="Health")
READY: Final = _route({"type": "object"}, 503, tag="Health")
V2_SERVER: Final = _route(_object(["name", "version", "extensions"], name=_TEXT, version=_TEXT, extensions={"type": "array"}))
V2_LIVE: Final = _route(_object(["live"], live={"type": "boolean"}))
V2_READY: Final = _route(_object(["ready"], ready={"type": "boolean"}), 503)
V2_MODEL: Final = _route(
    _object(
        ["name", "versions", "platform", "inputs", "outputs"],
        name=_TEXT,
        versions={"type": "array", "items": _TEXT},
        platform=_TEXT,
        inputs={"type": "array", "items": _META},
        outputs={"type": "array", "items": _META},
    ),
    404,
)
V2_MODEL_READY: Final = _route(_object(["name", "ready"], name=_TEXT, ready={"type": "boolean"}), 404)
