use super::{Overlong, TrainError};
use crate::evaluation::{Judge, Mode, PreparedPair};
use crate::preference::PreferencePair;

/// What became of a pair whose prompts may be too long.
#[derive(Clone, Debug)]
pub enum Fit {
    /// Both prompts fit as they are.
    Whole(PreparedPair),
    /// They fit without the first characters, so many, of the conversation.
    Cut(PreparedPair, usize),
    /// It is left out.
    Left,
}

/// Encodes a pair's judge prompts for `mode`, of at most `limit` tokens each, and does what `overlong` says where one is longer. Only the
/// conversation is ever cut, at its beginning and for both sides alike: rubric, instructions and responses stay whole.
///
/// # Errors
/// When the pair can't be put to the judge, or is too long and may not be left out or cut.
pub fn fit(
    judge: &Judge,
    (pair, mode): (PreferencePair, Mode),
    limit: usize,
    overlong: Overlong,
) -> Result<Fit, TrainError> {
    let mut prompts = judge.pair(&pair, mode)?;
    let mut longest = prompts[0].len().max(prompts[1].len());
    if longest <= limit {
        return Ok(Fit::Whole(PreparedPair { pair, prompts }));
    }
    let too_long = TrainError::Overlong { id: pair.id.clone(), tokens: longest, limit };
    match overlong {
        Overlong::Error => return Err(too_long),
        Overlong::Drop => return Ok(Fit::Left),
        Overlong::Truncate => {}
    }
    let whole = pair.conversation_length();
    let (mut cut, mut short) = (0, pair.clone());
    while longest > limit {
        if cut + 1 >= whole {
            return Err(too_long);
        }
        // A token has about as many characters here as in the whole prompt; what that misses, the next round cuts.
        let characters = ((longest - limit) * whole).div_ceil(longest);
        cut = (cut + characters).min(whole - 1);
        short = pair.without_beginning(cut);
        prompts = judge.pair(&short, mode)?;
        longest = prompts[0].len().max(prompts[1].len());
    }
    Ok(Fit::Cut(PreparedPair { pair: short, prompts }, cut))
}
