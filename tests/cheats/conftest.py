"""What the tests of this room share."""

from tests.evaluators.conftest import cache_dir as cache_dir
