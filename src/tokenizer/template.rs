use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, Value, context, escape_formatter, filters,
    machinery,
};
use minijinja_contrib::pycompat;
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::error::TokenizerError;
use super::files::TokenizerFiles;
use super::guard::{self, alone};
use super::shape;

/// Fuel of every rendering: about this many instructions, or 64 times as many bytes. A real template spends some hundred
/// a message.
const BASE_FUEL: u64 = 500_000;

/// Fuel for each byte of the conversation, which templates copy a few times, 64 bytes for one.
const FUEL_PER_BYTE: u64 = 2;

/// The longest text that `tojson` may make, in bytes.
const LONGEST_JSON: usize = 16 << 20;

/// A folder's chat template, in a sandbox: bounded time and memory, no files, no clock.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Json,
}

impl ChatTemplate {
    /// The template of a folder: `chat_template.jinja`, else the key of `tokenizer_config.json`, which may hold one
    /// template or a list of named ones, of which `default` is taken. `None` where there is neither.
    ///
    /// # Errors
    /// A template that does not compile, a list without `default`, or anything but text where a template should be (a
    /// dictionary would name files to be written).
    pub fn from_files(files: &TokenizerFiles) -> Result<Option<Self>, TokenizerError> {
        let mut config = files.json("tokenizer_config.json")?.unwrap_or_default();
        let special_tokens = special_tokens(&config);
        let source = match files.text("chat_template.jinja")? {
            Some(text) => Some(text.to_owned()),
            None => template_of_config(config["chat_template"].take())?,
        };
        source.map(|source| Self::new(source, special_tokens)).transpose()
    }

    fn new(source: String, special_tokens: Json) -> Result<Self, TokenizerError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        shape::check(&source, &syntax).map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_recursion_limit(64);
        environment.set_unknown_method_callback(python_method);
        environment.set_formatter(print);
        environment.add_filter("tojson", tojson);
        environment.add_filter("string", string);
        environment.add_filter("join", join);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        guard::install(&mut environment);
        environment.add_template_owned("chat_template", source).map_err(failed)?;
        let template = environment.get_template("chat_template").map_err(failed)?;
        guard::guarded(&machinery::get_compiled_template(&template).instructions).map_err(failed)?;
        Ok(Self { environment, special_tokens })
    }

    /// Renders `context`: `messages`, `add_generation_prompt` and whatever else the template reads.
    ///
    /// The text may hold control strings from the messages: [`super::Tokenizer::encode_chat`] is the safe way from
    /// messages to tokens.
    ///
    /// # Errors
    /// What the template raises, and any template that loops or grows beyond its fuel.
    pub fn render(&self, context: &Json) -> Result<String, TokenizerError> {
        let bytes = context.to_string().len() as u64;
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(BASE_FUEL + FUEL_PER_BYTE * bytes));
        let template = environment.get_template("chat_template").map_err(failed)?;
        let code =
            guard::guarded(&machinery::get_compiled_template(&template).instructions).map_err(failed)?;
        let special_tokens = Value::from(Serde(&self.special_tokens));
        let context = context! { ..Value::from(Serde(context)), ..special_tokens };
        let mut text = String::new();
        let mut out = machinery::make_string_output(&mut text);
        machinery::eval(&environment, &code, context, &BTreeMap::new(), &mut out, AutoEscape::None)
            .map_err(failed)?;
        Ok(text)
    }
}

fn template_of_config(value: Json) -> Result<Option<String>, TokenizerError> {
    let wrong =
        |reason: &str| TokenizerError::Template { reason: format!("tokenizer_config.json: {reason}") };
    match value {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text)),
        Json::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            let text = default.and_then(|entry| entry["template"].as_str());
            text.map(|text| Some(text.to_owned())).ok_or_else(|| wrong("no template is named `default`"))
        }
        _ => Err(wrong("`chat_template` is neither text nor a list of named templates")),
    }
}

/// What templates read as `bos_token`, `eos_token` and so on: text, or the content of an added token.
fn special_tokens(config: &Json) -> Json {
    let text = |value: &Json| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
    let named = ["bos_token", "eos_token", "pad_token", "unk_token"];
    named.into_iter().filter_map(|name| Some((name.to_owned(), Json::from(text(&config[name])?)))).collect()
}

/// Python's methods of strings, lists and dictionaries. Those whose result can dwarf their operands pay before they run.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    let length =
        |index: usize| args.get(index).and_then(|arg| arg.as_str().map(str::len).or_else(|| arg.len()));
    let bytes = match method {
        "replace" => {
            let old = args.first().and_then(Value::as_str).unwrap_or_default();
            text.len() + text.matches(old).count().saturating_mul(length(1).unwrap_or(0))
        }
        "join" => text.len().saturating_mul(length(0).unwrap_or(0)),
        "format" => {
            return Err(Error::new(ErrorKind::UnknownMethod, "`format` is not offered to chat templates"));
        }
        _ => text.len(),
    };
    state.consume_fuel(bytes as u64 / 64)?;
    pycompat::unknown_method_callback(state, value, method, args)
}

/// `tojson` of transformers: Python's separators, nothing escaped for HTML or ASCII.
fn tojson(state: &State, value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let text = match indent {
        None => serialize(value, PythonFormatter(CompactFormatter)),
        Some(width) => {
            state.consume_fuel(width as u64)?;
            serialize(value, PrettyFormatter::with_indent(" ".repeat(width).as_bytes()))
        }
    }?;
    state.consume_fuel(text.len() as u64 / 4)?;
    Ok(text)
}

fn serialize(value: &Value, formatter: impl Formatter) -> Result<String, Error> {
    let broken = |error: String| Error::new(ErrorKind::BadSerialization, error);
    let mut bytes = Capped(Vec::new());
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .map_err(|error| broken(error.to_string()))?;
    String::from_utf8(bytes.0).map_err(|error| broken(error.to_string()))
}

/// Takes at most [`LONGEST_JSON`] bytes. Parts of a value may be shared, so that what is small in memory is endless as text.
struct Capped(Vec<u8>);

impl std::io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_JSON {
            return Err(std::io::Error::other("the JSON is longer than any conversation"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Prints what stands alone. A list or object as Python would print it belongs in no conversation, and one whose parts are
/// shared would never end.
fn print(out: &mut Output<'_>, state: &mut State, value: &Value) -> Result<(), Error> {
    alone(value)?;
    escape_formatter(out, state, value)
}

/// Python's `str`.
fn string(state: &mut State, value: &Value) -> Result<Value, Error> {
    alone(value)?;
    filters::string(state, value)
}

/// Python's `str.join`.
fn join(state: &mut State, value: &Value, joiner: Option<String>) -> Result<String, Error> {
    let joiner = joiner.unwrap_or_default();
    let mut joined = String::new();
    for (place, part) in value.try_iter()?.enumerate() {
        alone(&part)?;
        let part = part.to_string();
        let between = if place == 0 { "" } else { joiner.as_str() };
        state.consume_fuel(1 + (between.len() + part.len()) as u64 / 64)?;
        joined.extend([between, &part]);
    }
    Ok(joined)
}

/// Python's default separators, `", "` and `": "`.
struct PythonFormatter(CompactFormatter);

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    alone(&message)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// Templates that print today's date would make tokens depend on the day they were made.
fn strftime_now(_format: Value) -> Result<Value, Error> {
    let reason = "it asks for today's date, but the same conversation must give the same tokens every day";
    Err(Error::new(ErrorKind::InvalidOperation, reason))
}

fn failed(error: Error) -> TokenizerError {
    TokenizerError::Template { reason: format!("{error:#}") }
}
