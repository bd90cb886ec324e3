/// Lower-cased words of `text`: runs of letters and digits, where a character of a script written without spaces is a
/// word of its own.
pub(super) fn words(text: &str) -> Vec<String> {
    pieces(text).into_iter().filter(|piece| piece.chars().all(char::is_alphanumeric)).collect()
}

/// Lower-cased words of `text` and its other visible characters one by one, in order.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::<String>::new();
    let mut open = false;
    for character in text.chars() {
        let joins = character.is_alphanumeric() && !stands_alone(character);
        if joins && open {
            pieces.last_mut().expect("a word is open, so one was pushed").extend(character.to_lowercase());
        } else if !character.is_whitespace() {
            pieces.push(character.to_lowercase().collect());
        }
        open = joins;
    }
    pieces
}

/// Han, kana and their neighbours: scripts that put no space between words.
fn stands_alone(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{a4cf}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lowered_and_punctuation_stands_alone() {
        assert_eq!(pieces("It's 42%, ok"), ["it", "'", "s", "42", "%", ",", "ok"]);
        assert_eq!(words("It's 42%, ok"), ["it", "s", "42", "ok"]);
        assert_eq!(words("你好 a你b"), ["你", "好", "a", "你", "b"]);
    }
}
