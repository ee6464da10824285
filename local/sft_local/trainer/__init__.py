"""The trainer: one supervised fine-tuning in a process of its own.

`python -m sft_local.trainer JOB.json` reads a `TrainingJob`, reports on standard output with one
JSON object (an `Event`) a line, and ends with its standard input.
"""
