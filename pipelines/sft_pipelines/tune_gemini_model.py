"""The pipeline `tune-gemini-model`: from rows to the endpoint that Gemini's tuning deploys."""

from sft_pipelines.inputs import INPUTS
from sft_pipelines.templates import OPEN_MODEL, models_of, template

# Gemini 2.5 costs half, but as the catalogue has it the service refuses it from 2026-10-20 on to
# projects that are new to it. This one is on the tuning page of 2026-09-25.
DEFAULT_MODEL = "gemini-3.5-flash"

# Gemini's weights stay with the service: there is no mode, folder or machine to choose.
_WITHOUT = {"tuning_mode", "learning_rate", "batch_size", "custom_base_model"}
_INPUTS = [
    name
    for name in OPEN_MODEL
    if name not in _WITHOUT and not name.startswith(("serving_", "promote_"))
]
_INPUTS.insert(_INPUTS.index("adapter_size"), "learning_rate_multiplier")

tune_gemini_model = template(
    "tune-gemini-model",
    "Tune a Gemini model on your rows, compare it with its base through its endpoint, and test it.",
    _INPUTS,
    {"large_model_reference": DEFAULT_MODEL},
    {
        "location": "Region of the run's resources, for instance us-central1. Not global.",
        "large_model_reference": f"Base model: {models_of('gemini')}.",
        "dataset_uri": f"{INPUTS['dataset_uri'].description} 100 to 500 rows are a good start; "
        "text, images, documents and audio.",
        "output_uri": "gs:// folder for the data sets; empty: below the pipeline root.",
        "epochs": "Passes over the training set; 0: the service's own choice.",
        "adapter_size": "LoRA rank: 1, 2, 4, 8 or 16, as the model allows; 0: the service's own "
        "choice.",
        "tuning_location": "Region of the tuning job and of the endpoint that it deploys; empty: "
        "the same as location.",
    },
    family="gemini",
)
