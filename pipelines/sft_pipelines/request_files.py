"""Whole requests for `pipelineJobs.create`, as the documents of the legacy templates show them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sft_components.errors import UserError
from sft_pipelines.json_hints import parse_json
from sft_pipelines.near import did_you_mean
from sft_pipelines.parameters import clean_name
from sft_pipelines.template_yaml import why_unread

FIELDS = {
    "displayName": str,
    "runtimeConfig": dict,
    "encryptionSpec": dict,
    "serviceAccount": str,
    "network": str,
    "labels": dict,
    "templateUri": str,
    "pipelineSpec": dict,
    "reservedIpRanges": list,
    "pscInterfaceConfig": dict,
    "preflightValidations": bool,
}
"""What a request may hold, and of what type."""
RUNTIME_FIELDS = {
    "gcsOutputDirectory": str,
    "parameterValues": dict,
    "failurePolicy": (str, int),
    "inputArtifacts": dict,
    "defaultRuntime": dict,
}
ENCRYPTION_FIELDS = {"kmsKeyName": str}
ANSWER_FIELDS = {
    "name",
    "createTime",
    "startTime",
    "endTime",
    "updateTime",
    "state",
    "jobDetail",
    "error",
    "templateMetadata",
    "scheduleName",
    "satisfiesPzs",
    "satisfiesPzi",
}
"""What only the service writes: there when a request is made from an answer."""
TUNING_FIELDS = {"baseModel", "supervisedTuningSpec", "tunedModelDisplayName"}

PLACEHOLDERS = {
    "ACCELERATOR_TYPE",
    "BUCKET",
    "DATASET_URI",
    "DEFAULT_CONTEXT",
    "ENABLE_CHECKPOINT_SELECTION",
    "ENABLE_EARLY_STOPPING",
    "ENCRYPTION_KEY_NAME",
    "EVAL_DATASET_URI",
    "EVAL_INTERVAL",
    "LARGE_MODEL_REFERENCE",
    "LEARNING_RATE_MULTIPLIER",
    "MODEL_DISPLAYNAME",
    "MODEL_UPLOAD_REGION",
    "OUTPUT_DIR",
    "PIPELINEJOB_DISPLAYNAME",
    "PIPELINE_JOB_REGION",
    "PROJECT_ID",
    "SERVICE_ACCOUNT",
    "STEPS",
    "TEMPLATE_URI",
    "TENSORBOARD_ID",
    "TENSORBOARD_RESOURCE_ID",
    "TUNINGPIPELINE_DISPLAYNAME",
}
"""Names that the documents' samples hold where a value belongs."""


SHELL = re.compile(
    r"'\$\{\w+\}'"  # the quoting of the samples
    r"|(?<=^)\S*\$\{[A-Z_]+\}\S*(?=$)"  # one word, as a bucket or a name is
    r"|\$\((?:date|gcloud|echo|cat)\b[^)]*\)"
)
"""What only a shell expands; a prompt may well hold `${name}`."""


@dataclass(frozen=True)
class PipelineRequest:
    """The body of a `pipelineJobs.create`, read and tidied."""

    place: str
    """The file, for messages."""
    display_name: str = ""
    pipeline_root: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    failure_policy: str = ""
    """`slow`, `fast` or empty."""
    kms_key: str = ""
    service_account: str = ""
    network: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    template_uri: str = ""
    pipeline_spec: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    """Fields that are passed on as they are, in the body's own form."""


def read_request(file: Path, warn: Callable[[str], None]) -> PipelineRequest:
    """Read a request, JSON (camelCase or snake_case) or YAML.

    Misprints in names are corrected, with a word to `warn`. Placeholders that nobody has replaced
    are refused.

    Raises:
        UserError: All that is wrong with it, with file, line and column where JSON is broken.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"There is no request file {file}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {why_unread(error)}") from error
    return parse_request(_load(text, file), str(file), warn)


def _load(text: str, file: Path) -> Any:
    if file.suffix in {".yaml", ".yml"}:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{file} cannot be read as YAML: {why_unread(error)}") from error
    return parse_json(text, str(file), FIELDS.keys() - {"labels", "network"})


def parse_request(body: Any, place: str, warn: Callable[[str], None]) -> PipelineRequest:
    """As `read_request`, from a parsed body."""
    if not isinstance(body, dict):
        raise UserError(f"{place} holds no JSON object.")
    names = {_camel(str(name)) for name in body}
    if TUNING_FIELDS & names:
        raise UserError(
            f"{place} is a request for tuningJobs.create. `vertex-sft run` takes pipelineJobs; "
            "give the model as -p large_model_reference=… to a template of its family."
        )
    problems: list[str] = []
    top = _fields(body, FIELDS, place, "", problems, warn)
    runtime = _fields(
        top.get("runtimeConfig", {}), RUNTIME_FIELDS, place, "runtimeConfig.", problems, warn
    )
    encryption = _fields(
        top.get("encryptionSpec", {}), ENCRYPTION_FIELDS, place, "encryptionSpec.", problems, warn
    )
    for path, value in _texts({**top, "pipelineSpec": None}):
        if problem := _unreplaced(value):
            problems.append(f"{place}: {path} {problem}")
    policy = _failure_policy(runtime.get("failurePolicy", ""), place, problems)
    if problems:
        raise UserError("\n".join(problems))
    others: dict[str, Any] = {
        name: top[name]
        for name in ("reservedIpRanges", "pscInterfaceConfig", "preflightValidations")
        if name in top
    }
    passed = {k: runtime[k] for k in ("inputArtifacts", "defaultRuntime") if k in runtime}
    if passed:
        others["runtimeConfig"] = passed
    return PipelineRequest(
        place=place,
        display_name=top.get("displayName", ""),
        pipeline_root=runtime.get("gcsOutputDirectory", ""),
        parameters=runtime.get("parameterValues", {}),
        failure_policy=policy,
        kms_key=encryption.get("kmsKeyName", ""),
        service_account=top.get("serviceAccount", ""),
        network=top.get("network", ""),
        labels={str(k): str(v) for k, v in top.get("labels", {}).items()},
        template_uri=top.get("templateUri", ""),
        pipeline_spec=top.get("pipelineSpec", {}),
        others=others,
    )


def _fields(
    given: Any,
    known: Mapping[str, Any],
    place: str,
    path: str,
    problems: list[str],
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """The known fields of one object under their camelCase names."""
    if not isinstance(given, dict):
        return {}  # its type has been complained of one level above
    found: dict[str, Any] = {}
    for written, value in given.items():
        name = _camel(clean_name(str(written)))
        if not path and name in ANSWER_FIELDS:
            warn(f"{place}: {name} is written by the service only: left out.")
            continue
        if name == "parameters" and path:
            problems.append(f"{place}: {path}parameters is the form of kfp 1: use parameterValues.")
            continue
        if name not in known:
            problems.append(f"{place}: {path}{written} is no field of a pipeline job.{_near(name)}")
            continue
        if clean_name(str(written)) != written:
            warn(f"{place}: {path}{written!r} has a stray character in its name: read as {name}.")
        if name in found:
            problems.append(f"{place}: {path}{name} is there twice.")
        elif not isinstance(value, known[name]):
            problems.append(f"{place}: {path}{name} is {value!r}: of the wrong type.")
        else:
            found[name] = value
    return found


def _near(name: str) -> str:
    if name in RUNTIME_FIELDS:
        return f" {name} belongs into runtimeConfig."
    if name in ENCRYPTION_FIELDS:
        return f" {name} belongs into encryptionSpec."
    return did_you_mean(name, [*FIELDS, *RUNTIME_FIELDS, *ENCRYPTION_FIELDS])


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _texts(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every text below `value`, with its path."""
    if isinstance(value, str):
        return [(path, value)]
    if isinstance(value, dict):
        inside = [(f"{path}.{k}".lstrip("."), v) for k, v in value.items()]
    elif isinstance(value, list):
        inside = [(f"{path}[{index}]", v) for index, v in enumerate(value)]
    else:
        return []
    return [text for name, v in inside for text in _texts(v, name)]


def _unreplaced(value: str) -> str:
    """What is wrong with a text that still is what a document's sample holds."""
    if match := SHELL.search(value):
        return f"holds {match[0]!r}, which only a shell expands: write the value."
    bare = re.sub(r"\s*\([^)]*\)$", "", value.removeprefix("gs://"))
    if bare.strip("/") in PLACEHOLDERS:
        return f"still is the placeholder {value!r}: write your value."
    return ""


def _failure_policy(given: Any, place: str, problems: list[str]) -> str:
    spoken = {
        "": "",
        0: "",
        1: "slow",
        2: "fast",
        "PIPELINE_FAILURE_POLICY_UNSPECIFIED": "",
        "PIPELINE_FAILURE_POLICY_FAIL_SLOW": "slow",
        "PIPELINE_FAILURE_POLICY_FAIL_FAST": "fast",
    }
    if given not in spoken:
        problems.append(
            f"{place}: runtimeConfig.failurePolicy is {given!r}: write "
            "PIPELINE_FAILURE_POLICY_FAIL_SLOW or PIPELINE_FAILURE_POLICY_FAIL_FAST."
        )
        return ""
    return spoken[given]
