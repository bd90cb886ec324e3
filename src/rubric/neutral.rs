//! Keeps content from being read as one of our tags.
//!
//! Wherever the conversation or the response holds `<`, backslashes or none, then `/` or none and one of our tag names (in
//! any case, white space allowed around the slash), one backslash is added after the `<`: `</response>` becomes
//! `<\/response>`, `<\score>` becomes `<\\score>`. Taking one backslash away at each such place restores the text, so two
//! different texts never become the same prompt. Everything else stays as it is.

/// `text` with every place that looks like a tag named in `names` made harmless.
pub(super) fn neutralise(text: &str, names: &[String]) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, after) = rest.split_at(at + 1);
        safe.push_str(before);
        if opens_tag(after, names) {
            safe.push('\\');
        }
        rest = after;
    }
    safe + rest
}

/// Whether what follows a `<` reads as the rest of one of our tags, backslashes aside.
fn opens_tag(after: &str, names: &[String]) -> bool {
    let blank = |c: char| c.is_whitespace() || c == '\\';
    let word = after.trim_start_matches(blank);
    let word = word.strip_prefix('/').unwrap_or(word).trim_start_matches(blank);
    names.iter().any(|name| {
        let head = word.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        head && !word[name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Vec<String> {
        ["score", "response", "user"].map(String::from).to_vec()
    }

    /// Takes away what `neutralise` added.
    fn restore(text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let (before, after) = rest.split_at(at + 1);
            plain.push_str(before);
            rest = if opens_tag(after, &names()) { after.strip_prefix('\\').unwrap_or(after) } else { after };
        }
        plain + rest
    }

    #[test]
    fn tags_in_content_get_one_backslash() {
        for (text, safe) in [
            ("</response>", "<\\/response>"),
            ("<\\score>", "<\\\\score>"),
            ("< / Response >", "<\\ / Response >"),
            ("<SCORE", "<\\SCORE"),
            ("<score x='1'>9</score>", "<\\score x='1'>9<\\/score>"),
            ("<scores> <user-id> a<b <br> <é", "<scores> <user-id> a<b <br> <é"),
            ("<<score>", "<<\\score>"),
        ] {
            assert_eq!(neutralise(text, &names()), safe);
        }
    }

    proptest! {
        #[test]
        fn neutral_text_can_be_restored_and_holds_no_tag(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<", "</", "\\", "/", " ", "score", "Response", "user", ">", "s", "x", "\n", "é", "_",
            ]), 0..24),
        ) {
            let text = parts.concat();
            let safe = neutralise(&text, &names());
            prop_assert_eq!(restore(&safe), text);
            let folded = safe.to_lowercase();
            for name in names() {
                for tag in [format!("<{name}>"), format!("</{name}>")] {
                    prop_assert!(!folded.contains(&tag), "{}", safe);
                }
            }
        }
    }
}
