"""The requests of the two routes, with the fields that the model in question takes."""

from typing import Any

from google.cloud.aiplatform_v1beta1 import types
from google.protobuf import json_format

from sft_components.catalog.settings import ADAPTER_SIZES
from sft_components.launch_sft.plan import Plan
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.starting_weights import StartingWeights
from sft_components.vertex.storage import join_uri

CHAT_FAMILIES = ("chat", "codechat")
TUNING_METHOD = "tune_v2"
API_ENDPOINT = "aiplatform.googleapis.com/ui"


def tuning_job(plan: Plan, settings: LaunchSettings, start: StartingWeights) -> types.TuningJob:
    """The tuning job of a Gemini or open model, without labels.

    What is at its default is left out, so that the service recommends it.
    """
    gemini = plan.model.family == "gemini"
    hyper = types.SupervisedHyperParameters(epoch_count=plan.epochs)
    rank = settings.adapter_size
    if gemini:
        hyper.learning_rate_multiplier = settings.learning_rate_multiplier
    else:
        hyper.learning_rate = plan.learning_rate
        hyper.batch_size = settings.batch_size
        rank = rank or plan.model.mode(plan.tuning_mode).adapter_size or 0
    if rank:
        hyper.adapter_size = types.SupervisedHyperParameters.AdapterSize[ADAPTER_SIZES[rank]]
    spec = types.SupervisedTuningSpec(
        training_dataset_uri=settings.training_uri,
        validation_dataset_uri=settings.validation_uri,
        hyper_parameters=hyper,
        export_last_checkpoint_only=settings.export_last_checkpoint_only,
    )
    job = types.TuningJob(
        supervised_tuning_spec=spec,
        tuned_model_display_name=settings.model_display_name,
        service_account=settings.service_account,
    )
    if start.tuned_model:
        job.pre_tuned_model = types.PreTunedModel(tuned_model_name=start.tuned_model)
    else:
        job.base_model = plan.model.name
    if not gemini:
        mode = types.SupervisedTuningSpec.TuningMode[f"TUNING_MODE_{plan.tuning_mode}"]
        job.supervised_tuning_spec.tuning_mode = mode
        job.custom_base_model = start.uri
        job.output_uri = join_uri(settings.output_uri, settings.run_name)
    if settings.encryption_spec_key_name:
        job.encryption_spec = types.EncryptionSpec(kms_key_name=settings.encryption_spec_key_name)
    return job


def pipeline_job(plan: Plan, settings: LaunchSettings) -> types.PipelineJob:
    """The pipeline job of a legacy model, without labels."""
    job = types.PipelineJob(
        display_name=settings.model_display_name,
        template_uri=plan.model.template,
        service_account=settings.service_account,
        network=settings.network,
        runtime_config=types.PipelineJob.RuntimeConfig(
            gcs_output_directory=join_uri(settings.output_uri, settings.run_name)
        ),
    )
    json_format.ParseDict(
        {"parameterValues": _parameters(plan, settings)},
        types.PipelineJob.RuntimeConfig.pb(job.runtime_config),
    )
    if settings.encryption_spec_key_name:
        job.encryption_spec = types.EncryptionSpec(kms_key_name=settings.encryption_spec_key_name)
    return job


def _parameters(plan: Plan, settings: LaunchSettings) -> dict[str, Any]:
    """The documented parameters that apply to the model; others only where they were changed."""
    values: dict[str, Any] = {
        "project": settings.project,
        "location": settings.location,
        "model_display_name": settings.model_display_name,
        "large_model_reference": plan.model.name,
        "dataset_uri": settings.training_uri,
        "train_steps": plan.train_steps,
        "learning_rate_multiplier": settings.learning_rate_multiplier or 1.0,
    }
    optional: dict[str, Any] = {
        "accelerator_type": settings.accelerator_type,
        "max_context_length": settings.max_context_length,
        "tensorboard_resource_id": settings.tensorboard_resource_id,
        "encryption_spec_key_name": settings.encryption_spec_key_name,
        "tpu_training_skip_cmek": settings.tpu_training_skip_cmek,
        "learning_rate": settings.given_learning_rate,
        "tuning_method": "" if settings.tuning_method == TUNING_METHOD else settings.tuning_method,
        "api_endpoint": "" if settings.api_endpoint == API_ENDPOINT else settings.api_endpoint,
    }
    if plan.model.family in CHAT_FAMILIES:
        optional["default_context"] = settings.default_context
    values |= {name: value for name, value in optional.items() if value}
    if settings.evaluation_uri:
        values |= {
            "evaluation_data_uri": settings.evaluation_uri,
            "evaluation_interval": settings.evaluation_interval,
            "enable_early_stopping": settings.enable_early_stopping,
            "enable_checkpoint_selection": settings.enable_checkpoint_selection,
        }
    return values
