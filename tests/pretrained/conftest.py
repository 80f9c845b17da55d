import pytest
from llama_of_characters import llama_of_characters


@pytest.fixture(scope="module")
def model():
    return llama_of_characters()


@pytest.fixture
def fresh_model():
    return llama_of_characters()
