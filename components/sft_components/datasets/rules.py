"""The rules of tuning data sets: one table, which the checker reports from and the docs list."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

_JSONL = "JSON Lines: one JSON object a line, UTF-8"
_OPEN = "Vertex AI docs, Tune an open model (prepare a data set)"
_GEMINI = "Vertex AI docs, Supervised tuning of Gemini (data format and limits)"
_BISON = "Vertex AI docs, Tune text and code models (legacy templates)"
_CHAT = "Chat templates of the model families: turns alternate"
_ADVICE = "Vertex AI docs, advice on tuning examples"
_PROJECT = "vertex-sft"


@dataclass(frozen=True)
class Rule:
    """One rule: its name, how bad a breach is, what it says and how to mend the data."""

    code: str
    severity: Severity
    what: str
    cure: str
    source: str


def _table(*rules: tuple[str, Severity, str, str, str]) -> dict[str, Rule]:
    return {r[0]: Rule(*r) for r in rules}


RULES: dict[str, Rule] = _table(
    # The file as bytes and lines.
    ("empty-file", "error", "The file has no rows.", "Name the file that holds the rows.", _JSONL),
    (
        "not-json-lines",
        "error",
        "The file is JSON, but not a row a line: an array, or objects over several lines.",
        "Write each object on one line of its own: an array's with `jq -c '.[]' FILE`, objects "
        "over several lines with `jq -c . FILE`.",
        _JSONL,
    ),
    ("bad-json", "error", "The line is not JSON.", "Mend the JSON at the column named.", _JSONL),
    (
        "bad-utf8",
        "error",
        "The line is not UTF-8.",
        "Save the file as UTF-8: `iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW-FILE`, with the "
        "encoding that it has.",
        _JSONL,
    ),
    (
        "lone-surrogate",
        "error",
        "A \\uD800-\\uDFFF escape has no partner, so the text is not Unicode.",
        "Remove the escape or write the whole pair; it is often half of a cut emoji.",
        "RFC 8259, section 8.2",
    ),
    ("not-an-object", "error", "The row is not a JSON object.", "Write {...} a line.", _JSONL),
    (
        "too-deep",
        "error",
        "The JSON is nested too deeply.",
        "Rows of the five formats need fewer than ten levels.",
        _PROJECT,
    ),
    (
        "row-too-large",
        "error",
        "The row has more bytes than a row may have here.",
        "Refer to media by gs:// address instead of embedding them, or shorten the row.",
        _PROJECT,
    ),
    (
        "unknown-format",
        "error",
        "The row has the keys of none of the five formats.",
        "Use messages, prompt and completion, contents, or input_text and output_text; others are "
        "renamed by `vertex-sft convert IN OUT --model MODEL --columns prompt=KEY,completion=KEY`.",
        _OPEN,
    ),
    (
        "mixed-formats",
        "error",
        "Rows of more than one format are in the same data set.",
        "Convert the files one by one with `vertex-sft convert`, then join them.",
        _OPEN,
    ),
    (
        "cell-count",
        "error",
        "A row of a CSV file has not as many cells as the header.",
        'Write a cell that holds the separator or a line break in quotes ("…", a quote in it twice)'
        ", and an empty cell with its separator.",
        "RFC 4180, section 2",
    ),
    # Keys and types of a row.
    ("missing-key", "error", "A required key is missing.", "Add the key.", _OPEN),
    (
        "unknown-key",
        "warning",
        "A key is not part of the format; the service may ignore or refuse it, and conversion "
        "leaves it out.",
        "Remove the key, or correct its spelling.",
        _OPEN,
    ),
    (
        "repeated-key",
        "error",
        "A key stands twice in one object; parsers differ in which of the values they take.",
        "Remove one of the two.",
        "RFC 8259, section 4",
    ),
    ("wrong-type", "error", "A value has the wrong JSON type.", "Write the type named.", _OPEN),
    (
        "unknown-role",
        "error",
        "The role or author is not one that the format knows.",
        "Use one of the names given.",
        _OPEN,
    ),
    (
        "no-messages",
        "error",
        "The row has no messages.",
        "Remove the row or give it a user and an assistant message.",
        _OPEN,
    ),
    (
        "empty-content",
        "error",
        "The text is empty or only white space.",
        "Give the text, or remove the row.",
        _BISON,
    ),
    ("empty-parts", "error", "The list of parts is empty.", "Give at least one part.", _OPEN),
    (
        "bad-part",
        "error",
        "A part is none of the kinds that the format knows, or more than one at once.",
        "Write a text part or a media part.",
        _OPEN,
    ),
    # The order of turns.
    (
        "system-not-first",
        "error",
        "A system message stands after other messages.",
        "Put the one system message first.",
        _CHAT,
    ),
    ("first-not-user", "error", "The first turn is not the user's.", "Begin with user.", _CHAT),
    (
        "wrong-alternation",
        "error",
        "Two turns of the same side follow each other.",
        "Join the two turns, or add the missing turn between them.",
        _CHAT,
    ),
    (
        "last-not-assistant",
        "error",
        "The last turn is not the assistant's, so there is nothing to learn from it.",
        "Add the answer, or remove the turn.",
        _CHAT,
    ),
    ("no-assistant", "error", "The row has no assistant turn.", "Add the wanted answer.", _CHAT),
    (
        "pair-count",
        "error",
        "The number of user/assistant pairs is outside the model's range.",
        "Split or lengthen the conversation.",
        _BISON,
    ),
    (
        "answer-role",
        "warning",
        "The answers carry a role that the model does not take.",
        "Gemini takes `model`, open models take `assistant`; the pipeline and "
        "`vertex-sft convert` write the right one.",
        _GEMINI,
    ),
    (
        "inexpressible",
        "error",
        "The row has something that the format it is converted to has no place for.",
        "Choose a model that takes the row's own format, or remove what is named.",
        _PROJECT,
    ),
    # Media.
    (
        "modality",
        "error",
        "The model does not learn from this kind of media.",
        "Remove the media or choose a model that takes them (`vertex-sft models`).",
        _OPEN,
    ),
    (
        "mixed-modality",
        "warning",
        "As soon as one row has an image, the service silently drops the rows without one.",
        "Keep rows with and rows without images in two data sets.",
        _OPEN,
    ),
    (
        "media-type",
        "error",
        "The media type is not one that tuning takes.",
        "Convert the file to a type that is taken: JPEG, PNG or WEBP for images.",
        _OPEN,
    ),
    (
        "media-mismatch",
        "error",
        "The bytes are not of the media type that is declared, or else told by the name.",
        "Declare the type that the bytes have, or let the name end as that type does.",
        _OPEN,
    ),
    (
        "bad-uri",
        "error",
        "The address is neither gs://bucket/object nor data:TYPE;base64,...",
        "Name the file by its gs:// address; `vertex-sft convert --media-to gs://BUCKET/FOLDER` "
        "uploads files that rows name by local paths.",
        _OPEN,
    ),
    ("bad-base64", "error", "The base64 data cannot be decoded.", "Encode it again.", _OPEN),
    (
        "missing-object",
        "error",
        "A file or Cloud Storage object that rows refer to does not exist or cannot be read.",
        "Upload it, correct the address, or grant roles/storage.objectViewer on its bucket.",
        _OPEN,
    ),
    (
        "other-bucket",
        "warning",
        "Media are in another bucket than the data set.",
        "Grant roles/storage.objectUser on both buckets to the two service agents of tuning: "
        "service-PROJECT_NUMBER@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com and "
        "service-PROJECT_NUMBER@gcp-sa-aiplatform.iam.gserviceaccount.com.",
        _OPEN,
    ),
    # Length.
    (
        "too-long",
        "error",
        "The row has more tokens than the model reads; the service cuts off the rest.",
        "Shorten or split the row, or choose --on-long warn, drop or truncate.",
        _OPEN,
    ),
    # The file as a whole.
    (
        "format-not-taken",
        "warning",
        "The model does not take this format.",
        "The pipeline converts it; for a file of your own run `vertex-sft convert`.",
        _OPEN,
    ),
    (
        "too-few-rows",
        "error",
        "The data set has fewer rows than the service accepts.",
        "Add rows.",
        _BISON,
    ),
    (
        "few-rows",
        "warning",
        "The data set has fewer rows than the documentation recommends.",
        "Add rows for a better result.",
        _OPEN,
    ),
    (
        "too-many-rows",
        "error",
        "The data set has more rows than the service accepts.",
        "Take a sample of the rows.",
        _GEMINI,
    ),
    (
        "too-many-authors",
        "error",
        "The author fields of all rows together exceed the model's limit.",
        "Take a sample of the rows.",
        _BISON,
    ),
    (
        "file-too-large",
        "error",
        "The file has more bytes than the service accepts.",
        "Take a sample of the rows, or refer to media by gs:// address.",
        _GEMINI,
    ),
    (
        "validation-bytes",
        "error",
        "The validation file exceeds its share of the training file's bytes.",
        "Move rows to the training file: nine to one keeps the limit, four to one does not. Rows "
        "held out for the evaluation have no limit: --evaluation (evaluation_data_uri).",
        _OPEN,
    ),
    (
        "validation-rows",
        "error",
        "The validation set has more rows than the service accepts.",
        "Take a sample of the validation rows. Rows held out for the evaluation have no limit: "
        "--evaluation (evaluation_data_uri).",
        _OPEN,
    ),
    (
        "validation-unsupported",
        "error",
        "The model is tuned without a validation data set.",
        "Leave out --validation (validation_data_uri). Rows held out for the evaluation, which "
        "text and code models take, go with --evaluation (evaluation_data_uri).",
        _BISON,
    ),
    (
        "evaluation-rows",
        "error",
        "The number of evaluation rows is outside the model's range.",
        "Add rows or take a sample.",
        _BISON,
    ),
    (
        "evaluation-media",
        "error",
        "A held-out row has media where they cannot be evaluated: only Gemini is asked about them, "
        "and only answers of text are compared.",
        "Leave such rows out of the evaluation set. Without any the model is tuned all the same, "
        "and nothing is evaluated.",
        _PROJECT,
    ),
    (
        "evaluation-unsupported",
        "error",
        "The model does not support an evaluation data set.",
        "Leave out --evaluation (evaluation_data_uri).",
        _BISON,
    ),
    (
        "duplicate-row",
        "warning",
        "The row is the same as an earlier one.",
        "Remove the copies (deduplicate), unless the weight is wanted.",
        _PROJECT,
    ),
    (
        "row-in-two-sets",
        "warning",
        "The row is in the training set too, so its result says nothing about new rows.",
        "Remove it from one of the two.",
        _PROJECT,
    ),
    # Advice.
    (
        "system-inconsistent",
        "warning",
        "Some rows have a system instruction and others have none.",
        "Give all rows one (default_context fills the gaps) or none.",
        _ADVICE,
    ),
    (
        "keywords-inconsistent",
        "warning",
        "Some prompts use a keyword such as `question:` or `context:` and others do not, or use "
        "them in another order.",
        "Write all prompts as production will write them.",
        _ADVICE,
    ),
    (
        "instruction-missing",
        "warning",
        "Short inputs with a few fixed answers and no instruction that names the task.",
        "Put the instruction and the possible answers into the prompt.",
        _ADVICE,
    ),
)


def as_markdown() -> str:
    """The table of the rules, for the documentation."""
    lines = [
        "# Rules of the data sets",
        "",
        "What `vertex-sft validate` and the step `validate-dataset` check. Written by "
        "`make compile` from the table that the checker reads.",
        "",
    ]
    lines += ["| code | severity | what it means | cure | source |", "|---|---|---|---|---|"]
    for rule in RULES.values():
        cells = (f"`{rule.code}`", rule.severity, rule.what, rule.cure, rule.source)
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"
