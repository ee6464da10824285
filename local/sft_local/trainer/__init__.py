"""The trainer: supervised fine-tunings in a process of its own.

`python -m sft_local.trainer` reads the `Order` of a job, reports on standard output with one JSON
object (an `Event`) a line until `Done` or `Failed`, waits a while for another order, and ends with
its standard input.
"""
