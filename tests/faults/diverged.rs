//! Rows 12 to 14 and 21: steps that go wrong.
