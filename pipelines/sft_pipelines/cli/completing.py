"""Values that a shell completes: names of models and of templates."""


def model_names(incomplete: str) -> list[str]:
    """Models of the catalogue whose name begins so."""
    from sft_components.catalog import load_catalog

    return [name for name in load_catalog().models if name.startswith(incomplete)]


def template_names(incomplete: str) -> list[str]:
    """Templates that ship with the package whose name begins so."""
    from sft_pipelines.compiling import template_names

    return [name for name in template_names() if name.startswith(incomplete)]
