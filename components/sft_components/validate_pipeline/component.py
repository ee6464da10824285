"""KFP interface of the check of a run's settings."""

from sft_components.embedding import step


@step(packages=["google-api-core", "msgspec", "pyyaml"])
def validate_pipeline(
    location: str,
    base_model: str,
    tuning_mode: str,
    output_uri: str,
    tuning_location: str = "",
    epochs: int = 0,
    learning_rate: float = 0.0,
    adapter_size: int = 0,
    batch_size: int = 0,
    encryption_spec_key_name: str = "",
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    max_new_tokens: int = 64,
    machine_type: str = "",
    accelerator_type: str = "",
    accelerator_count: int = 0,
):
    """Check a run's settings before anything is read, sent or paid for.

    Args:
        location: Region of the endpoint; not global.
        base_model: Model to be tuned, as the catalogue names it.
        tuning_mode: PEFT_ADAPTER (LoRA) or FULL.
        output_uri: gs:// folder for checkpoints.
        tuning_location: Region of the tuning job, or global; empty: the same as location.
        epochs: Passes over the training set; 0: the model's default.
        learning_rate: 0: the one recommended for the model.
        adapter_size: LoRA rank: 1, 2, 4, 8, 16 or 32; 0: the recommended one.
        batch_size: Rows a step; 0: the service's default.
        encryption_spec_key_name: Customer-managed key; may be empty.
        min_exact_match: Gate: least exact match (0 to 1) of the tuned model.
        min_improvement: Gate: least gain in exact match over the base model (-1 to 1).
        max_new_tokens: Longest answer of the evaluation, in tokens.
        machine_type: Serving machine, for instance g2-standard-12; with the next two, all or none.
        accelerator_type: For instance NVIDIA_L4.
        accelerator_count: Accelerators of one replica.
    """
    from sft_components.steps import log, user_errors
    from sft_components.validate_pipeline.work import validate_pipeline as work

    with user_errors():
        work(
            location=location,
            tuning_location=tuning_location or location,
            base_model=base_model,
            tuning_mode=tuning_mode,
            epochs=epochs,
            learning_rate=learning_rate,
            adapter_size=adapter_size,
            batch_size=batch_size,
            output_uri=output_uri,
            encryption_spec_key_name=encryption_spec_key_name,
            min_exact_match=min_exact_match,
            min_improvement=min_improvement,
            max_new_tokens=max_new_tokens,
            machine_type=machine_type,
            accelerator_type=accelerator_type,
            accelerator_count=accelerator_count,
            log=log,
        )
