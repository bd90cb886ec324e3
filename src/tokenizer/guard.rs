//! Makes templates pay for what the engine does not count.
//!
//! The engine counts instructions, and bytes and slots of what they make. It does not count the walk through nested values
//! when they are compared, hashed or turned into text, nor how deep they are, and parts may be shared: sixty lists of two
//! parts each are 2^60 values to a walk. So the compiled template is rewritten. What an instruction makes is walked through,
//! paid for and held to a depth; what an instruction would walk through is paid for before.

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{DynObject, ObjectRepr, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// Lists and objects within each other: more than parsers of JSON allow, few enough for any stack.
const DEEPEST: usize = 192;

/// What fuel is counted in, as the engine does: one unit is a byte, this many are one fuel.
const UNITS_PER_FUEL: u64 = 64;

/// The price of each value that a walk meets.
const UNITS_PER_VALUE: u64 = 16;

/// The engine's marker of a filter that is looked up by its name, not by a number of the template's.
const BY_NAME: u8 = u8::MAX;

/// Filters and tests that look at no more than the outside of a value.
const OUTSIDE: [&str; 13] = [
    "count",
    "d",
    "default",
    "defined",
    "first",
    "iterable",
    "last",
    "length",
    "mapping",
    "none",
    "number",
    "sequence",
    "undefined",
];

/// Adds the guards that [`guarded`] calls, takes away what no guard covers.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_filter("#alone", |value: Value| alone(&value).map(|()| value));
    environment.add_filter("#kept", |value: Value| kept(&value).map(|()| value));
    environment.add_filter("#listed", |state: &State, value: Value| listed(state, value));
    environment.add_filter("#made", |state: &State, value: Value| made(state, value));
    environment.add_filter("#weighed", |state: &State, value: Value| weigh(state, &value).map(|()| value));
    environment.add_filter("#applied", applied);
    environment.add_filter("#tested", tested);
    environment.add_filter("#called", called);
    ["chain", "groupby", "pprint", "urlencode"]
        .into_iter()
        .for_each(|filter| environment.remove_filter(filter));
    environment.remove_global("debug"); // it prints every variable
}

/// The compiled template with its guards.
///
/// # Errors
/// `*` in the arguments of a filter, a test or a method: there is no place for a guard.
pub(super) fn guarded<'s>(code: &Instructions<'s>) -> Result<Instructions<'s>, Error> {
    let mut starts = Vec::new();
    let mut lines = Vec::new();
    for at in 0.. {
        starts.push(lines.len() as u32);
        let Some(instruction) = code.get(at) else { break };
        let line = code.get_line(at).unwrap_or_default() as u16;
        lines.extend(around(instruction)?.into_iter().map(|instruction| (instruction, line)));
    }
    let mut guarded = Instructions::new(code.name(), code.source());
    for (mut instruction, line) in lines {
        if let Some(target) = target(&mut instruction) {
            *target = starts[*target as usize];
        }
        guarded.add_with_line(instruction, line);
    }
    Ok(guarded)
}

/// Where an instruction may jump to.
fn target<'i>(instruction: &'i mut Instruction<'_>) -> Option<&'i mut u32> {
    match instruction {
        Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) => Some(target),
        _ => None,
    }
}

/// An instruction among its guards.
fn around<'s>(instruction: &Instruction<'s>) -> Result<Vec<Instruction<'s>>, Error> {
    use Instruction as I;
    let this = instruction.clone();
    let guard = |name| I::ApplyFilter(name, Some(1), BY_NAME);
    let both = |name| [guard(name), I::Swap, guard(name), I::Swap, this.clone()].to_vec();
    Ok(match instruction {
        I::Eq | I::Ne | I::Gt | I::Gte | I::Lt | I::Lte | I::In | I::CompareAndPreserve(_) => {
            both("#weighed")
        }
        I::StringConcat => both("#alone"),
        I::SetAttr(_) => vec![I::Swap, guard("#kept"), I::Swap, this],
        I::GetItem => vec![guard("#weighed"), this],
        I::Add | I::Mul | I::Slice => vec![this, guard("#listed")],
        I::LoadConst(value) if value.kind() == ValueKind::Iterable => vec![this, guard("#listed")],
        I::BuildList(_) | I::BuildTuple(_) | I::BuildMap(_) | I::CallFunction(..) | I::CallObject(_) => {
            vec![this, guard("#made")]
        }
        I::ApplyFilter(name, count, _) => by_name("#applied", name, *count)?,
        I::PerformTest(name, count, _) => by_name("#tested", name, *count)?,
        I::CallMethod(name, count) => by_name("#called", name, *count)?,
        _ => vec![this],
    })
}

/// A filter, test or method by way of the guard that pays for its arguments.
fn by_name<'s>(guard: &'s str, name: &str, count: Option<u16>) -> Result<Vec<Instruction<'s>>, Error> {
    let Some(count) = count.and_then(|count| count.checked_add(1)) else {
        let reason = format!("`*` stands in the arguments of `{name}`; write them out");
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    };
    let name: String = name.split_whitespace().collect();
    Ok(vec![Instruction::LoadConst(name.into()), Instruction::ApplyFilter(guard, Some(count), BY_NAME)])
}

fn applied(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let (name, args) = pay(state, args)?;
    let result = state.apply_filter(&name, &args).map_err(|error| unknown(error, "filter", &name))?;
    made(state, result)
}

fn tested(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<bool, Error> {
    let (name, args) = pay(state, args)?;
    state.perform_test(&name, &args).map_err(|error| unknown(error, "test", &name))
}

fn called(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let (name, args) = pay(state, args)?;
    let Some((object, args)) = args.split_first() else { return Err(ErrorKind::MissingArgument.into()) };
    args.iter().try_for_each(kept)?;
    let result = object.call_method(state, &name, args)?;
    made(state, result)
}

fn unknown(error: Error, what: &str, name: &str) -> Error {
    match error.kind() {
        kind @ (ErrorKind::UnknownFilter | ErrorKind::UnknownTest) if error.detail().is_none() => {
            Error::new(kind, format!("{what} {name} is unknown"))
        }
        _ => error,
    }
}

/// The name that [`by_name`] put last, and the arguments before it, paid for: the first once, which is what is worked on, the
/// others once for each of its parts (`map` and `select` work on all of them).
fn pay(state: &State, args: Rest<ValueOrKwargs>) -> Result<(String, Vec<Value>), Error> {
    let mut args = args.into_values();
    let name = args.pop().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    if name.starts_with('#') {
        return Err(wrong(format!("`{name}` is not a template's to call")));
    }
    if let [first, others @ ..] = &args[..]
        && !OUTSIDE.contains(&name.as_str())
    {
        weigh(state, first)?;
        let times = first.as_object().and_then(DynObject::enumerator_len).unwrap_or(1);
        for _ in 0..times.max(1) {
            others.iter().try_for_each(|value| weigh(state, value))?;
        }
    }
    Ok((name, args))
}

/// A value that an instruction made, as a list where it would make its parts anew each time they are looked at.
fn made(state: &State, value: Value) -> Result<Value, Error> {
    let value = listed(state, value)?;
    weigh(state, &value).map(|()| value)
}

fn listed(state: &State, value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let mut parts = Vec::new();
    for part in value.try_iter()?.checked() {
        state.consume_fuel((parts.len() % 2) as u64)?;
        parts.push(part?);
    }
    Ok(parts.into())
}

/// Pays for one walk through a value.
fn weigh(state: &State, value: &Value) -> Result<(), Error> {
    let mut owed = UNITS_PER_FUEL - 1;
    walk(state, value, 0, &mut owed)
}

fn walk(state: &State, value: &Value, depth: usize, owed: &mut u64) -> Result<(), Error> {
    *owed += UNITS_PER_VALUE + value.as_str().map_or(0, str::len) as u64;
    state.consume_fuel(*owed / UNITS_PER_FUEL)?;
    *owed %= UNITS_PER_FUEL;
    let Some(object) = value.as_object() else { return Ok(()) };
    if depth > 0 {
        kept(value)?;
    }
    if depth == DEEPEST {
        return Err(wrong(format!("it puts lists or objects more than {DEEPEST} deep into each other")));
    }
    if object.repr() == ObjectRepr::Map {
        object.try_iter_pairs().into_iter().flatten().try_for_each(|(key, value)| {
            walk(state, &key, depth + 1, owed)?;
            walk(state, &value, depth + 1, owed)
        })
    } else {
        object.try_iter().into_iter().flatten().try_for_each(|part| walk(state, &part, depth + 1, owed))
    }
}

/// Refuses to keep in a value what could come to hold that value, or what is made anew each time it is looked at.
fn kept(value: &Value) -> Result<(), Error> {
    let Some(object) = value.as_object() else { return Ok(()) };
    let name = object.type_name().rsplit("::").next().unwrap_or_default();
    match name {
        "Namespace" | "Loop" => {
            let name = name.to_lowercase();
            Err(wrong(format!("it keeps a whole `{name}` in a value; keep the attributes that it needs")))
        }
        _ if object.repr() == ObjectRepr::Iterable => {
            Err(wrong("it keeps an iterator in a value; turn it into a list first, with `list`".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Refuses a list or object that would become text as Python writes it: that belongs in no conversation.
pub(super) fn alone(value: &Value) -> Result<(), Error> {
    match value.as_object().is_some() && !value.is_undefined() {
        false => Ok(()),
        true => {
            let reason = "it prints a list or an object; `tojson` is how templates do that";
            Err(wrong(reason.to_owned()))
        }
    }
}

fn wrong(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
