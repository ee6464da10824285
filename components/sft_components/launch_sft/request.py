"""The tuning job that a step asks for."""

from google.cloud.aiplatform_v1beta1 import types

from sft_components.catalog import ModelSpec
from sft_components.catalog.settings import ADAPTER_SIZES


def tuning_job(
    model: ModelSpec,
    *,
    display_name: str,
    training_uri: str,
    validation_uri: str,
    tuning_mode: str,
    epochs: int,
    learning_rate: float,
    adapter_size: int,
    batch_size: int,
    output_uri: str,
    custom_base_model: str,
    encryption_spec_key_name: str,
    service_account: str,
) -> types.TuningJob:
    """The request for an open model, without labels. Zero means the recommended value."""
    mode = model.mode(tuning_mode)
    hyper = types.SupervisedHyperParameters(
        epoch_count=epochs or model.default_epochs or 0,
        learning_rate=learning_rate or mode.learning_rate or 0.0,
        batch_size=batch_size,
    )
    rank = adapter_size or mode.adapter_size
    if rank:
        hyper.adapter_size = types.SupervisedHyperParameters.AdapterSize[ADAPTER_SIZES[rank]]
    job = types.TuningJob(
        base_model=model.name,
        tuned_model_display_name=display_name[:128],
        custom_base_model=custom_base_model,
        output_uri=output_uri,
        service_account=service_account,
        supervised_tuning_spec=types.SupervisedTuningSpec(
            training_dataset_uri=training_uri,
            validation_dataset_uri=validation_uri,
            tuning_mode=types.SupervisedTuningSpec.TuningMode[f"TUNING_MODE_{tuning_mode}"],
            hyper_parameters=hyper,
        ),
    )
    if encryption_spec_key_name:
        job.encryption_spec = types.EncryptionSpec(kms_key_name=encryption_spec_key_name)
    return job
