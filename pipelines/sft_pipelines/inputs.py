"""The inputs of the pipelines: each declared once, with its type, default and meaning."""

from dataclasses import dataclass
from typing import Any

REQUIRED: Any = object()
"""The default of an input that must be given."""


@dataclass(frozen=True)
class Input:
    """One input of a pipeline."""

    type: type
    default: Any
    description: str
    """Meaning, unit, allowed values; one line or more."""


INPUTS: dict[str, Input] = {
    "project": Input(str, REQUIRED, "Google Cloud project."),
    "location": Input(
        str,
        REQUIRED,
        "Region of the model and its endpoint, for instance us-central1. Not global.",
    ),
    "model_display_name": Input(
        str, REQUIRED, "Name of the tuned model and its endpoint, up to 128 characters."
    ),
    "large_model_reference": Input(str, REQUIRED, "Base model."),
    "dataset_uri": Input(
        str,
        REQUIRED,
        "Training set: gs:// address of a JSON Lines file; wildcards and .gz are taken.",
    ),
    "output_uri": Input(
        str,
        "",
        "gs:// folder for data sets and checkpoints, in a bucket that exists; empty: below the "
        "pipeline root.",
    ),
    "evaluation_data_uri": Input(
        str,
        "",
        "Held-out rows that the gate compares the tuned and the base model on, gs:// JSON Lines; "
        "empty: no evaluation.",
    ),
    "validation_data_uri": Input(
        str,
        "",
        "Validation set used during tuning, gs:// JSON Lines; empty: a part of the training set is "
        "split off, unless validation_split is false.",
    ),
    "dataset_format": Input(
        str,
        "auto",
        "Format of the rows: auto, messages, prompt-completion, generate-content, text-to-text or "
        "author-chat. They are converted to the one that the model takes.",
    ),
    "default_context": Input(
        str, "", "System instruction (context) for rows that have none of their own."
    ),
    "on_long": Input(
        str, "fail", "What to do with rows that are too long: fail, warn, drop or truncate."
    ),
    "validation_split": Input(
        bool, True, "Split a validation set off the training set when none is given."
    ),
    "deduplicate": Input(bool, False, "Leave out copies of a training row."),
    "tuning_location": Input(
        str, "", "Region of the tuning job, or global; empty: the same as location."
    ),
    "tuning_mode": Input(str, "", "PEFT_ADAPTER (LoRA) or FULL; empty: the first the model has."),
    "epochs": Input(int, 0, "Passes over the training set; 0: the model's default."),
    "train_steps": Input(
        int,
        300,
        "Training steps. Models that are tuned in epochs get steps x batch size / rows of them, "
        "rounded up, unless epochs is given.",
    ),
    "learning_rate": Input(
        float, 0.0, "Learning rate; 0: the one recommended for the model and mode."
    ),
    "learning_rate_multiplier": Input(
        float, 1.0, "Factor on the recommended learning rate, above 0."
    ),
    "adapter_size": Input(int, 0, "LoRA rank: 1, 2, 4, 8, 16 or 32; 0: the recommended one."),
    "batch_size": Input(int, 0, "Rows a training step; 0: the service's default."),
    "custom_base_model": Input(
        str,
        "",
        "gs:// folder of weights to start from: a checkpoint of the same architecture, or the "
        "output of an earlier tuning job; empty: the base model's own.",
    ),
    "export_last_checkpoint_only": Input(
        bool, False, "Keep the last checkpoint only, instead of one for each epoch."
    ),
    "max_cost_usd": Input(
        float,
        0.0,
        "Do not launch a tuning job whose estimate is above this, US dollars; 0: no limit.",
    ),
    "evaluation_max_new_tokens": Input(int, 64, "Longest answer in the evaluation, tokens."),
    "evaluation_max_rows": Input(int, 0, "Held-out rows to use; 0: all."),
    "evaluation_task": Input(
        str,
        "auto",
        "What is evaluated: auto, classification, extraction, qa, summarization, text, json or "
        "code; it chooses the metrics.",
    ),
    "gate": Input(
        str,
        "",
        'Gate: an expression over metrics, such as "exact_match >= 0.4 and rouge_l > '
        'base.rouge_l"; empty: only the two thresholds.',
    ),
    "evaluation_json_schema": Input(
        str, "", "Task json: the JSON schema that answers must meet, or its gs:// address."
    ),
    "judge_endpoint": Input(
        str,
        "",
        "Endpoint, or name of a Gemini model, that compares the answers of both models; empty: no "
        "judge.",
    ),
    "judge_prompt": Input(str, "", "What the judge is to look at; empty: a built-in text."),
    "judge_mode": Input(
        str, "auto", "How the judge judges: pairwise (in both orders), scores (1 to 5) or auto."
    ),
    "judge_max_rows": Input(int, 100, "Rows the judge is asked about."),
    "evaluation_baseline_endpoint": Input(
        str,
        "",
        "projects/P/locations/L/endpoints/ID of the model now in production: what the tuned model "
        "is compared with instead of its base model; empty: the base model.",
    ),
    "min_exact_match": Input(
        float, 0.0, "Gate: least exact match (0 to 1) of the tuned model on the held-out rows."
    ),
    "min_improvement": Input(
        float,
        0.0,
        "Gate: least gain over the base model (-1 to 1) in the task's primary metric: accuracy, "
        "exact match, ROUGE-L (summaries, text), field F1 (json) or chrF (code).",
    ),
    "serving_machine_type": Input(
        str,
        "",
        "Machine that serves, for instance g2-standard-12; empty: the catalogue's for the model.",
    ),
    "serving_accelerator_type": Input(
        str,
        "",
        "For instance NVIDIA_L4; empty: the machine's, which the catalogue must know then.",
    ),
    "serving_accelerator_count": Input(
        int,
        0,
        "Accelerators of one replica; 0: the machine's, which the catalogue must know then.",
    ),
    "serving_min_replica_count": Input(
        int, 1, "Fewest machines that serve; 0: none while nobody asks (scale to zero)."
    ),
    "serving_max_replica_count": Input(int, 1, "Most machines that serve."),
    "serving_spot": Input(
        bool, False, "Serve on cheaper machines that may be taken away at any time."
    ),
    "serving_fallback_machines": Input(
        list,
        [],
        "Machine types to try in order when there is none of the first, a JSON list such as "
        '["g2-standard-24"].',
    ),
    "serving_container_args": Input(
        list,
        [],
        "vLLM's arguments in the place of the catalogue's, a JSON list such as "
        '["--max-model-len=16384", "--max-num-seqs=64"].',
    ),
    "serving_container_image_uri": Input(
        str,
        "",
        "vLLM's image; catalog: the catalogue's, with its arguments; empty: the catalogue's if "
        "serving_container_args are given, else Model Garden chooses both.",
    ),
    "serving_service_account": Input(
        str,
        "",
        "Account that the serving container runs as; empty: the service's own.",
    ),
    "serving_network": Input(
        str,
        "",
        "VPC network that alone reaches the endpoint, projects/NUMBER/global/networks/NAME; the "
        "run must be in it too; empty: a public address.",
    ),
    "endpoint_ttl_hours": Input(
        int,
        0,
        "Hours after which `vertex-sft endpoints reap` takes the endpoint down; 0: never.",
    ),
    "endpoint_labels": Input(
        dict, {}, 'Labels of the endpoint, a JSON object such as {"team": "search"}.'
    ),
    "smoke_test_prompts": Input(
        list, [], "Texts the new endpoint is asked, a JSON list; empty: built-in ones."
    ),
    "smoke_test_prompts_uri": Input(
        str,
        "",
        "gs:// JSON Lines or YAML of prompts with what their answers must hold; see the page on "
        "serving.",
    ),
    "smoke_test_requests": Input(
        int, 0, "Ask the endpoint so many more times, several at once, and measure; 0: none."
    ),
    "smoke_test_concurrency": Input(int, 8, "How many of those requests at once."),
    "smoke_test_base_endpoint": Input(
        str,
        "",
        "projects/P/locations/L/endpoints/ID of the base model: an answer unlike its own proves "
        "that the tuned weights are served; empty: a Gemini model is asked by its name.",
    ),
    "promote_to_endpoint": Input(
        str,
        "",
        "projects/P/locations/L/endpoints/ID that serves the model in production, or is yet to "
        "serve its first: the tuned model takes its place, and the run's own endpoint is taken "
        "down; empty: no promotion.",
    ),
    "promote_traffic_share": Input(
        int,
        100,
        "Per cent of that endpoint's requests for the tuned model; below 100 both serve. The first "
        "model takes 100.",
    ),
    "promote_parent_model": Input(
        str,
        "",
        "projects/P/locations/L/models/ID that the tuned model becomes a version of; empty: none.",
    ),
    "promote_settle_s": Input(
        float,
        60.0,
        "Seconds that the old model stays deployed without traffic, while the endpoint is watched.",
    ),
    "model_version_aliases": Input(
        list,
        ["champion"],
        "What the Model Registry calls the version in use at the end, promoted or deployed, a JSON "
        "list.",
    ),
    "max_latency_s": Input(
        float,
        0.0,
        "Fail when an answer of the smoke test takes longer after the warm-up, seconds; 0: no "
        "limit.",
    ),
    "encryption_spec_key_name": Input(
        str,
        "",
        "Customer-managed encryption key of the tuning job, and of the endpoint and the model of "
        "open weights, projects/P/locations/L/keyRings/R/cryptoKeys/K; empty: Google's.",
    ),
    "service_account": Input(
        str, "", "Account that the tuning job runs as; empty: the service's own."
    ),
    "network": Input(
        str, "", "VPC network of the tuning job, projects/NUMBER/global/networks/NAME; empty: none."
    ),
    "tensorboard_resource_id": Input(
        str,
        "",
        "Vertex AI TensorBoard that gets the metrics, projects/P/locations/L/tensorboards/ID, in "
        "the region of the tuning pipeline; empty: none.",
    ),
    "allow_unlisted": Input(
        bool, False, "Try a model that the catalogue does not hold; its price is then unknown."
    ),
    "cancel_on_abort": Input(
        bool, True, "Cancel the tuning job when the run is cancelled or fails; false: let it end."
    ),
    "relaunch_failed": Input(
        bool,
        False,
        "Launch a new tuning job where this run's earlier one failed or somebody cancelled it.",
    ),
    "when_changed": Input(
        str,
        "",
        "Name under which successful runs are remembered: a run whose data set is the one of the "
        "last successful run under that name ends early and green, and the same tuning that an "
        "earlier run has paid is used again; empty: always tune.",
    ),
    # What only the templates of the retired models have.
    "dataset_name": Input(
        str,
        "",
        "Managed data set, as the old templates took it. Not read: export it to Cloud Storage and "
        "give dataset_uri.",
    ),
    "tuning_method": Input(str, "tune_v2", "Method of the retired models' tuning: tune_v2."),
    "evaluation_interval": Input(
        int, 20, "Training steps between evaluations (retired text and code models)."
    ),
    "enable_early_stopping": Input(
        bool,
        True,
        "Stop when the token accuracy of the evaluations no longer gets better (retired text and "
        "code models; needs evaluation_data_uri).",
    ),
    "enable_checkpoint_selection": Input(
        str,
        "default",
        "true, false or default: give back the checkpoint that was evaluated best instead of the "
        "last one (retired text and code models; needs evaluation_data_uri).",
    ),
    "tpu_training_skip_cmek": Input(
        bool, False, "Tune on TPU without the customer-managed key that is given (retired models)."
    ),
    "api_endpoint": Input(
        str, "aiplatform.googleapis.com/ui", "Address that the retired models' pipeline uses."
    ),
    "accelerator_type": Input(
        str,
        "",
        "Where a retired model is tuned: GPU (us-central1, 8 A100 80 GB) or TPU (europe-west4, 64 "
        "v3 cores); empty: GPU.",
    ),
    "max_context_length": Input(
        str,
        "",
        "8k or 32k: context length of a retired model; empty: that of the reference.",
    ),
    "evaluation_output_root_dir": Input(
        str,
        "",
        "gs:// folder for evaluation files, as the old templates took it. Here evaluations are "
        "artifacts of the run.",
    ),
}
"""By name. A template may give one another default or description."""
