"""Sources without what only people read, for a step's program has a limit in bytes."""

import ast
import functools
import io
import re
import tokenize


@functools.cache
def strip(source: str) -> str:
    """`source` without docstrings and comments, each statement on the line where it was.

    The lines stay so that a traceback of a step leads to the place in the repository.
    """
    lines = [line.encode() for line in source.split("\n")]
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if not isinstance(node.value.value, str) or node.end_lineno is None:
            continue
        first, last = node.lineno - 1, node.end_lineno - 1
        # Something has to stand there: the text may be all that its class or function has.
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        lines[first : last + 1] = [before + b'""', *[b""] * (last - first)]
        lines[last] += after
    bare = b"\n".join(lines).decode()
    kept = bare.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(bare).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            kept[row - 1] = kept[row - 1][:column].rstrip()
    return "\n".join(kept)


def strip_yaml(source: str) -> str:
    """The catalogue without comments and the addresses of its sources, which no step tells."""
    return re.sub(r"^ *(#|url: ).*\n", "", source, flags=re.MULTILINE)
