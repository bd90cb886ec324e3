//! Rust text as tokens: comments gone, literals blanked, so that rules see code and nothing else.

/// One token and the line it starts on (from 1). A string or char literal is the single token `"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The tokens of `source`: words, `::`, and single punctuation characters.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { chars: source.chars().collect(), at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(c) = reader.peek(0) {
        let line = reader.line;
        if let Some(text) = reader.token(c) {
            found.push(Token { text, line });
        }
    }
    found
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip(&mut self, n: usize) {
        (0..n).for_each(|_| {
            self.step();
        });
    }

    fn token(&mut self, c: char) -> Option<String> {
        match (c, self.peek(1)) {
            (c, _) if c.is_whitespace() => self.skip(1),
            ('/', Some('/')) => {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.skip(1)
                }
            }
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => return Some(self.quoted('"')),
            ('\'', Some(next)) if next == '\\' || self.peek(2) == Some('\'') => {
                return Some(self.quoted('\''));
            }
            (c, _) if c.is_alphanumeric() || c == '_' => return Some(self.word()),
            (':', Some(':')) => {
                self.skip(2);
                return Some("::".into());
            }
            (c, _) => {
                self.skip(1);
                return Some(c.into());
            }
        }
        None
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.skip(2);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.skip(2);
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => self.skip(1),
                (None, _) => return,
            }
        }
    }

    fn quoted(&mut self, quote: char) -> String {
        self.skip(1);
        while let Some(c) = self.step() {
            match c {
                '\\' => self.skip(1),
                c if c == quote => break,
                _ => {}
            }
        }
        "\"".into()
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
            self.skip(1);
        }
        let hashes = (0..).take_while(|&i| self.peek(i) == Some('#')).count();
        match word.as_str() {
            "r" | "br" | "cr" if self.peek(hashes) == Some('"') => self.raw(hashes),
            "b" | "c" if self.peek(0) == Some('"') => self.quoted('"'),
            "b" if self.peek(0) == Some('\'') => self.quoted('\''),
            _ => word,
        }
    }

    fn raw(&mut self, hashes: usize) -> String {
        self.skip(hashes + 1);
        while let Some(c) = self.step() {
            if c == '"' && (0..hashes).all(|i| self.peek(i) == Some('#')) {
                self.skip(hashes);
                break;
            }
        }
        "\"".into()
    }
}

/// Whether `tokens` go on with `texts` at `at`.
pub(crate) fn follows(tokens: &[Token], at: usize, texts: &[&str]) -> bool {
    texts.iter().enumerate().all(|(i, text)| tokens.get(at + i).is_some_and(|t| t.text == *text))
}

#[test]
fn comments_and_literals_are_no_code() {
    let source = r##"a /* b /* c */ d */ "e \" f" // g
        r#"h " i"# b'j' 'k' '\'' 'life l::m br"n" /// o
        r#type"##;
    let texts: Vec<String> = tokens(source).into_iter().map(|t| t.text).collect();
    let expected = ["a", "\"", "\"", "\"", "\"", "\"", "'", "life", "l", "::", "m", "\"", "r", "#", "type"];
    assert_eq!(texts, expected);
}

#[test]
fn tokens_know_their_line() {
    let lines: Vec<usize> = tokens("a\n\"x\ny\" b /*\n*/ c").iter().map(|t| t.line).collect();
    assert_eq!(lines, [1, 2, 3, 4]);
}
