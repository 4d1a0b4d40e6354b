"""A short form of `tests/fuzz_inputs.py`, whose long form is run by hand."""

import pytest

from tests import fuzz_inputs

EXAMPLES = {'dataset': 60, 'command line': 60, 'config.json': 12}
KINDS = [(family, kind) for family, (kinds, *_) in fuzz_inputs.FAMILIES.items() for kind in kinds]


# ml_collections loads configs.py in a way that Python is about to give up.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')


@pytest.fixture(scope='module')
def readers(tmp_path_factory):
    return {
        family: reader(tmp_path_factory.mktemp('fuzz'))
        for family, (_, reader, _) in fuzz_inputs.FAMILIES.items()
    }


@pytest.mark.xdist_group('fuzz')
@pytest.mark.parametrize(('family', 'kind'), KINDS)
def test_an_input_is_refused_in_one_line_or_good(readers, family, kind):
    survey = fuzz_inputs.Survey(fuzz_inputs.FAMILIES[family][0][kind], readers[family])
    survey.draw(EXAMPLES[family], seed=0)
    assert survey.tally['refused'] >= EXAMPLES[family] // 4


@pytest.mark.xdist_group('fuzz')
def test_what_is_no_refusal_is_found(readers):
    """The survey itself: an error of any other kind gets through."""

    def check(number):
        if number > 1000:
            raise KeyError(number)
        return 'refused'

    survey = fuzz_inputs.Survey(fuzz_inputs.st.integers(), check)
    with pytest.raises(KeyError, match='1001'):  # the smallest there is
        survey.draw(500, seed=0)
