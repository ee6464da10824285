"""`python -m sft_pipelines.cli`: the same as `vertex-sft`."""

from sft_pipelines.cli.app import main

main()
