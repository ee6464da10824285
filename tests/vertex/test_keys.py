import re

from hypothesis import given
from hypothesis import strategies as st

from sft_components.vertex.keys import digest, endpoint_id, label_value, model_id


@given(st.text())
def test_label_values_are_what_the_service_accepts(text: str):
    assert re.fullmatch(r"[a-z0-9_-]{0,63}", label_value(text))


@given(st.text(), st.text())
def test_different_texts_have_different_labels(one: str, two: str):
    assert (label_value(one) == label_value(two)) == (one == two)


@given(st.text())
def test_ids_are_what_the_service_accepts(run_name: str):
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", endpoint_id(run_name))
    assert endpoint_id(run_name) != model_id(run_name)


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
