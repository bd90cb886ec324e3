//! What a chat template may look like: what the engine compiles without counting, and by recursion.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// The longest template, in bytes: several times the longest that is published.
const LONGEST: usize = 256 << 10;

/// The most words and signs in one `{{ }}` or `{% %}`: each may be a level of the engine's recursion.
const MOST_IN_A_TAG: usize = 500;

/// The most `elif` in a template, for the same reason.
const MOST_ELIF: usize = 1000;

/// Words after which `[` begins a list.
const KEYWORDS: [&str; 10] = ["and", "autoescape", "do", "elif", "else", "if", "in", "is", "not", "or"];

/// What one tag holds so far.
#[derive(Default)]
struct Tag {
    tokens: usize,
    lists: usize,
    products: usize,
}

/// Refuses a template that would be compiled too long or too deep.
///
/// # Errors
/// A template, tag or chain of `elif` beyond the limits; a tag with both a list and `*`: the engine works out what is
/// constant as it compiles, at any cost.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<(), Error> {
    if source.len() > LONGEST {
        return refuse(0, format!("it is longer than {LONGEST} bytes"));
    }
    let (mut tag, mut elifs, mut last) = (Tag::default(), 0, Token::BlockEnd);
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token?;
        let line = usize::from(span.start_line);
        match &token {
            Token::VariableStart | Token::BlockStart => tag = Tag::default(),
            Token::Ident("elif") => elifs += 1,
            Token::BracketOpen => tag.lists += usize::from(!may_have_index(&last)),
            Token::Mul => tag.products += 1,
            _ => {}
        }
        tag.tokens += 1;
        if tag.tokens > MOST_IN_A_TAG {
            return refuse(
                line,
                format!("more than {MOST_IN_A_TAG} words and signs stand in one tag; make it several"),
            );
        }
        if elifs > MOST_ELIF {
            return refuse(line, format!("it has more than {MOST_ELIF} `elif`"));
        }
        if tag.lists * tag.products > 0 {
            return refuse(
                line,
                "a list and `*` stand in one tag; `set` the list before, in a tag of its own".into(),
            );
        }
        last = token;
    }
    Ok(())
}

/// Whether `[` after this token takes a part of something, rather than begins a list.
fn may_have_index(token: &Token) -> bool {
    match token {
        Token::Ident(word) => !KEYWORDS.contains(word),
        Token::Str(_) | Token::String(_) | Token::ParenClose | Token::BracketClose | Token::BraceClose => {
            true
        }
        _ => false,
    }
}

fn refuse(line: usize, reason: String) -> Result<(), Error> {
    let place = if line > 0 { format!("line {line}: ") } else { String::new() };
    Err(Error::new(ErrorKind::SyntaxError, place + &reason))
}
