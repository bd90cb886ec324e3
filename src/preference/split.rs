use super::pair::PreferencePair;

/// Splits pairs into training and held-out ones, `(train, held_out)`, each in the order given.
///
/// A pair is held out if the hash of its prompt, read as a number in [0, 1), lies below `held_out_share`. So a prompt is
/// never on both sides, and on which side it is depends on nothing but its own words: not on the order of the pairs nor
/// on what else there is. The share is met on average, not exactly.
pub fn split(pairs: Vec<PreferencePair>, held_out_share: f64) -> (Vec<PreferencePair>, Vec<PreferencePair>) {
    pairs.into_iter().partition(|pair| place(pair) >= held_out_share)
}

/// The first 53 bits of the prompt's hash as a number in [0, 1).
fn place(pair: &PreferencePair) -> f64 {
    let hash = pair.prompt_hash();
    let first = hash.as_bytes().first_chunk::<8>().expect("a hash is 32 bytes");
    (u64::from_be_bytes(*first) >> 11) as f64 / (1_u64 << 53) as f64
}
