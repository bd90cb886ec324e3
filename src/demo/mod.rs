//! The embedded default's preference pairs: four small worlds of readable text whose truth only the generator knows.
