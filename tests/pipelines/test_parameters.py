from pathlib import Path

import pytest
import yaml

from sft_components.errors import UserError
from sft_pipelines.parameters import Template, read_parameters, read_template
from sft_pipelines.request_files import read_request

SPEC = {
    "pipelineInfo": {"name": "demo"},
    "root": {
        "dag": {"tasks": {}},
        "inputDefinitions": {
            "parameters": {
                "project": {"parameterType": "STRING"},
                "epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3.0},
                "learning_rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.1},
                "stop": {"parameterType": "BOOLEAN", "defaultValue": True},
                "prompts": {"parameterType": "LIST", "defaultValue": []},
            }
        },
    },
}


@pytest.fixture
def template(tmp_path: Path) -> Template:
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return read_template(path)


def test_values_are_read_by_their_type(template: Template):
    assert read_parameters(
        template,
        ["project=0123", "epochs=2", "learning_rate=1", "stop=False", 'prompts=["a", "b=c"]'],
    ) == {
        "project": "0123",
        "epochs": 2,
        "learning_rate": 1.0,
        "stop": False,
        "prompts": ["a", "b=c"],
    }


def test_every_mistake_is_named_at_once(template: Template):
    with pytest.raises(UserError) as raised:
        read_parameters(
            template, ["epoch=2", "epochs=2.5", "stop=maybe", "learning_rate=fast", "novalue"]
        )
    message = str(raised.value)
    assert "Did you mean epochs?" in message
    assert "2.5 is not a whole number" in message
    assert "'maybe' is not true or false" in message
    assert "'fast' is not a number" in message
    assert "-p novalue: write NAME=VALUE" in message
    assert "Parameter project is required: add --project VALUE, or -p project=VALUE." in message


def test_assignments_go_before_the_file_and_the_file_before_defaults(
    template: Template, tmp_path: Path
):
    file = tmp_path / "values.yaml"
    file.write_bytes("\ufeffproject: file\r\nepochs: 5\r\n".encode())
    assert read_parameters(
        template, ["epochs=7"], file, defaults={"project": "default", "unknown_here": 1}
    ) == {"project": "file", "epochs": 7}


@pytest.mark.parametrize("content", ["", "- a\n", "a: [", "text"])
def test_files_that_are_no_template_or_no_parameters(
    content: str, template: Template, tmp_path: Path
):
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=r"broken\.yaml"):
        read_template(file)
    with pytest.raises(UserError, match=r"broken\.yaml"):
        read_parameters(template, ["project=p"], file)


def test_broken_yaml_is_told_in_one_line_with_its_place(template: Template, tmp_path: Path):
    file = tmp_path / "broken.yaml"
    for content, says in (
        (b"epochs: 3\n\tstop: no\n", "line 2, column 1: found "),
        (b"\xff\xfea", "it is no UTF-8 text."),
    ):
        file.write_bytes(content)
        for read in (
            lambda: read_template(file),
            lambda: read_parameters(template, [], file),
            lambda: read_request(file, print),
        ):
            with pytest.raises(UserError) as raised:
                read()
            assert says in str(raised.value)
            assert "\n" not in str(raised.value)


def test_a_name_that_is_like_none_is_told_where_the_names_are(template: Template):
    with pytest.raises(UserError, match=f"The first lines of {template.path} list what it has"):
        read_parameters(template, ["project=p", "zzz=1"])


def test_misprints_are_corrected_with_a_word_and_refused_when_ambiguous(template: Template):
    said: list[str] = []
    request = {"project:": "p", "epochs": "5", "stop": "false", "learning_rate ": 2}
    assert read_parameters(
        template, [], request=request, request_place="r.json", warn=said.append
    ) == {"project": "p", "epochs": 5, "stop": False, "learning_rate": 2.0}
    assert len(said) == 4
    assert "r.json: 'project:' has a stray character in its name: read as project." in said
    assert "r.json: epochs: '5' in quotes is read as 5." in said
    with pytest.raises(UserError, match="project is there twice, once as 'project:'"):
        read_parameters(template, [], request={"project:": "a", "project": "b"})


def test_a_whole_number_may_be_written_as_a_float_but_not_a_part_of_one(template: Template):
    assert read_parameters(template, ["project=p"], request={"epochs": 3.0})["epochs"] == 3
    with pytest.raises(UserError, match=r"epochs: 3\.5 is not a whole number"):
        read_parameters(template, ["project=p"], request={"epochs": 3.5})
