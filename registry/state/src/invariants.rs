//! Checks that the parts of a state agree, for tests.
